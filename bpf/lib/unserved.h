/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "reject.h"
#include "svc.h"

/* Refuses a datagram to a cluster address and port without backends. It comes from
 * a socket that was connected to it, which succeeds.
 */
static __always_inline int refuse_empty(struct __sk_buff *skb, const struct packet *p, __u64 direction)
{
	struct frontend_key key = {
		.addr = p->tuple.dst,
		.port = p->tuple.dport,
		.proto = p->tuple.proto,
		.scope = SCOPE_CLUSTER,
	};
	const struct frontend *found = svc_frontend(&key);

	return p->tuple.proto != IPPROTO_UDP || (found && found->count) ? VERDICT_NEXT : reject(skb, p, direction);
}

/* Keeps in what would leave the node for a cluster address: nobody routes these. One
 * that no Service has may be one's in a moment: the client tries again.
 */
static __always_inline int refuse_unserved(struct __sk_buff *skb, const struct packet *p, __u64 direction)
{
	if (!p->ports || !packet_opens(p))
		return VERDICT_NEXT;
	if (svc_has(&p->tuple.dst, SCOPE_CLUSTER))
		return refuse_empty(skb, p, direction);
	return svc_in_set(SET_SERVICES, &p->tuple.dst) ? drop(DROP_NO_ENDPOINT) : VERDICT_NEXT;
}
