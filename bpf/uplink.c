/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Traffic between other hosts and this node, at its uplinks: connections to a
 * NodePort, external or load-balancer address get a backend, and replies get the
 * service address back. What goes to a backend of another node has this node's
 * address as its source, so that the replies come back here.
 *
 * The deepest calls are uplink_in, open, open_remote, and then snat_create or
 * nat_apply with sctp_delta; and uplink_in, icmp_in, error_translate. As Linux 6.6
 * rounds them, each takes all of the 512 bytes of stack.
 */

#include <stddef.h>

#include "lib/choose.h"
#include "lib/ct.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/error.h"
#include "lib/fragment.h"
#include "lib/nat.h"
#include "lib/route.h"
#include "lib/snat.h"
#include "lib/svc.h"
#include "lib/unserved.h"

static __always_inline int forward(struct __sk_buff *skb, const struct packet *p, const struct ct *ct)
{
	int err = nat_apply(skb, p, ct);

	return err ? drop(-err) : deliver_local(skb, &ct->addr);
}

/* Rewrites both ends and sends the packet on. */
static __always_inline int pass_on(struct __sk_buff *skb, const struct packet *p, const struct ct *ct,
				   const struct bpf_fib_lookup *way)
{
	int err = nat_apply(skb, p, ct);

	return err ? drop(-err) : route_send(skb, way);
}

/* What becomes of a packet that there is no way for. One that is too large is
 * answered by uplink_in.
 */
static __always_inline int lost(struct packet *p, int err, const struct bpf_fib_lookup *way)
{
	if (err != -DROP_TOO_BIG)
		return drop(-err);
	p->fits = way->mtu_result;
	return VERDICT_DROP;
}

/* Opens a connection to a backend of another node. */
__noinline int open_remote(struct __sk_buff *skb, struct packet *p, const struct backend *backend)
{
	struct bpf_fib_lookup way;
	const struct pod_addrs *own;
	struct ct request;
	__u32 out;
	int err;

	if (!p || !backend)
		return drop(DROP_INVALID);
	err = route_lookup(skb, p, &backend->addr, &way);
	if (err)
		return lost(p, err, &way);
	out = way.ifindex;
	own = bpf_map_lookup_elem(&uplinks, &out);
	if (!own)
		return drop(DROP_REMOTE_BACKEND);
	struct addr from = own->v4;

	barrier_var(own); /* or the offset is computed, which the verifier cannot follow */
	if (p->v6)
		from = own->v6;
	if (!from.w[3])
		return drop(DROP_REMOTE_BACKEND);
	err = route_hop(skb, p);
	if (!err)
		err = snat_create(&p->tuple, backend, &from, &request);
	return err ? drop(-err) : pass_on(skb, p, &request, &way);
}

/* What may be the first packet of a connection. */
__noinline int open(struct __sk_buff *skb, struct packet *p)
{
	enum drop_reason reason = DROP_NO_ENDPOINT;

	if (!p)
		return drop(DROP_INVALID);
	for (int i = 0; i < TRIES; i++) {
		struct backend backend;
		struct ct request;
		int result = choose(p, SCOPE_EXTERNAL, i, &backend);

		if (result == SVC_NONE)
			return VERDICT_NEXT;
		if (result == SVC_EMPTY)
			return reject(skb, p, 0);
		if (result == SVC_DENIED)
			return drop(DROP_SOURCE_RANGE);
		if (result != SVC_FOUND)
			break;
		if (!backend.flags)
			return open_remote(skb, p, &backend);
		result = ct_create(&p->tuple, &backend, skb->ifindex, &request);
		if (!result)
			return forward(skb, p, &request);
		reason = -result;
	}
	return drop(reason);
}

/* A packet of a known connection: requests to a backend of this node, and both
 * ways of one with another node's.
 */
__noinline int follow(struct __sk_buff *skb, struct packet *p, const struct ct *known)
{
	struct bpf_fib_lookup way;
	struct ct ct;
	int err;

	if (!p || !known)
		return drop(DROP_INVALID);
	ct = *known;
	if (ct.action == CT_DNAT)
		return forward(skb, p, &ct);
	err = route_lookup(skb, p, &ct.addr, &way);
	if (err)
		return lost(p, err, &way);
	err = route_hop(skb, p);
	return err ? drop(-err) : pass_on(skb, p, &ct, &way);
}

/* ICMP: errors about connections through this node, and echo requests. */
__noinline int icmp_in(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_fib_lookup way;
	struct ct ct = {};
	int result;

	if (!p)
		return VERDICT_NEXT;
	result = error_translate(skb, p, CT_DNAT, &ct);
	if (!result)
		return echo(skb, p, SCOPE_EXTERNAL, 0);
	if (result < 0)
		return drop(-result);
	if (ct.action == CT_DNAT)
		return deliver_local(skb, &p->tuple.dst);
	result = route_lookup(skb, p, &p->tuple.dst, &way);
	if (!result)
		result = route_hop(skb, p);
	return result ? drop(-result) : route_send(skb, &way);
}

SEC("tc")
int uplink_in(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *known;
	int verdict = VERDICT_NEXT;

	/* What cannot be parsed is left to the host's stack. */
	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	if (p.later && fragment_lost(&p, SCOPE_EXTERNAL))
		return drop(DROP_FRAGMENT);
	if (!p.ports)
		return icmp_in(skb, &p);
	known = ct_find(&p.tuple);
	if (known && known->action & CT_DNAT)
		verdict = follow(skb, &p, known);
	else if (!p.later)
		verdict = open(skb, &p);
	return p.fits ? reject_size(skb, &p) : verdict;
}

/* As icmp_in. When the node itself asks, the answer comes in where the request went
 * out.
 */
static __always_inline int icmp_out(struct __sk_buff *skb, struct packet *p)
{
	struct ct ct = {};
	int result = error_translate(skb, p, CT_SNAT, &ct);

	if (!result)
		return echo(skb, p, SCOPE_CLUSTER, BPF_F_INGRESS);
	return result < 0 ? drop(-result) : VERDICT_NEXT;
}

/* Replies of sockets of the node itself, and of pods that came by the host's
 * stack.
 */
SEC("tc")
int uplink_out(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *reply;
	struct ct nat;
	int err;

	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	if (p.later && fragment_lost(&p, SCOPE_CLUSTER))
		return drop(DROP_FRAGMENT);
	if (!p.ports)
		return icmp_out(skb, &p);
	reply = ct_find(&p.tuple);
	if (!reply || reply->action != CT_SNAT)
		return refuse_unserved(skb, &p, BPF_F_INGRESS);
	nat = *reply;
	err = nat_apply(skb, &p, &nat);
	return err ? drop(-err) : VERDICT_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
