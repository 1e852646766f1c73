/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "drop.h"
#include "packet.h"

/* Hands a packet straight to a local pod, past the host's stack. Returns the
 * verdict, or VERDICT_NEXT when the address is not one of a local pod.
 */
static __always_inline int deliver_local(struct __sk_buff *skb, const struct addr *to)
{
	const struct addr key = *to; /* on the stack, as kernels before 6.2 want keys */
	const struct endpoint *pod = bpf_map_lookup_elem(&endpoints, &key);

	if (!pod)
		return VERDICT_NEXT;
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_dest), &pod->pod, sizeof(pod->pod), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_source), &pod->host, sizeof(pod->host), 0))
		return drop(DROP_REWRITE);
	return bpf_redirect_peer(pod->ifindex, 0);
}
