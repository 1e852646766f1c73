/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Traffic from a pod, at the host end of its veth pair: no source address but
 * the pod's own leaves it; replies of a NodePort connection get the service
 * address back and leave through the uplink; what is for another pod of this
 * node goes there directly; all else is routed by the host.
 */

#include <stddef.h>

#include "lib/ct.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/nat.h"
#include "lib/takeover.h"
#include "lib/unserved.h"

/* Link-local and unspecified addresses are used by neighbour discovery only;
 * the host does not route them.
 */
static __always_inline bool is_link_scope(const struct addr *a)
{
	if ((a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return true;
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == 0 && a->w[3] == 0;
}

static __always_inline bool is_own(__u32 ifindex, const struct packet *p)
{
	const struct pod_addrs *own = bpf_map_lookup_elem(&pods, &ifindex);

	if (!own)
		return false;
	if (p->v6)
		return addr_equal(&p->tuple.src, &own->v6) || is_link_scope(&p->tuple.src);
	return addr_equal(&p->tuple.src, &own->v4);
}

SEC("tc")
int pod_from(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *reply;
	int result = packet_parse(skb, &p);

	if (result > 0)
		return VERDICT_NEXT;
	if (result < 0)
		return drop(-result);
	if (!is_own(skb->ifindex, &p))
		return drop(DROP_SPOOFED);
	reply = p.ports ? ct_find(&p.tuple) : NULL;
	if (reply && reply->action == CT_SNAT) {
		struct ct nat = *reply;

		result = nat_rewrite(skb, &p, NAT_SRC, &nat.addr, nat.port);
		if (result)
			return drop(-result);
		/* Past netfilter, which has not seen the request and might take
		 * the reply for traffic to be masqueraded.
		 */
		return bpf_redirect_neigh(nat.ifindex, NULL, 0, 0);
	}
	if (takeover_keeps_pod(skb, &p))
		return VERDICT_NEXT;
	result = deliver_local(skb, &p.tuple.dst);
	if (result != VERDICT_NEXT)
		return result;
	return p.ports ? refuse_unserved(skb, &p, 0) : echo(skb, &p, SCOPE_CLUSTER, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
