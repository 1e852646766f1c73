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
#include "lib/error.h"
#include "lib/fragment.h"
#include "lib/nat.h"
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

/* Where a translated packet goes. Replies to other hosts leave past netfilter, which
 * has not seen the request and might take them for traffic to be masqueraded.
 */
static __always_inline int leave(struct __sk_buff *skb, const struct addr *to, const struct ct *ct)
{
	if (ct->action == CT_SNAT && ct->ifindex)
		return bpf_redirect_neigh(ct->ifindex, NULL, 0, 0);
	return deliver_local(skb, to);
}

/* A packet of a connection that is translated. */
__noinline int follow(struct __sk_buff *skb, const struct packet *p, const struct ct *known)
{
	struct ct ct;
	int err;

	if (!p || !known)
		return drop(DROP_INVALID);
	ct = *known;
	err = nat_apply(skb, p, &ct);
	if (err)
		return drop(-err);
	return leave(skb, ct.action == CT_SNAT ? &p->tuple.dst : &ct.addr, &ct);
}

/* ICMP: errors about connections that are translated, and echo requests. */
__noinline int icmp_from(struct __sk_buff *skb, struct packet *p)
{
	struct ct ct = {};
	int result;

	if (!p)
		return VERDICT_NEXT;
	result = error_translate(skb, p, CT_BOTH, &ct);
	if (result)
		return result < 0 ? drop(-result) : leave(skb, &p->tuple.dst, &ct);
	result = deliver_local(skb, &p->tuple.dst);
	return result != VERDICT_NEXT ? result : echo(skb, p, SCOPE_CLUSTER, 0);
}

SEC("tc")
int pod_from(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *known;
	int result = packet_parse(skb, &p);

	if (result > 0)
		return VERDICT_NEXT;
	if (result < 0)
		return drop(-result);
	if (!is_own(skb->ifindex, &p))
		return drop(DROP_SPOOFED);
	if (p.later && fragment_lost(&p, SCOPE_CLUSTER))
		return drop(DROP_FRAGMENT);
	if (!p.ports)
		return icmp_from(skb, &p);
	known = ct_find(&p.tuple);
	if (known)
		return follow(skb, &p, known);
	result = deliver_local(skb, &p.tuple.dst);
	return result != VERDICT_NEXT ? result : refuse_unserved(skb, &p, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
