/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Traffic between other hosts and this node, at its uplinks: connections to a
 * NodePort, external or load-balancer address get a backend, and replies get the
 * service address back. What goes to a backend of another node has this node's
 * address as its source, so that the replies come back here.
 */

#include <stddef.h>

#include "lib/ct.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/nat.h"
#include "lib/route.h"
#include "lib/snat.h"
#include "lib/svc.h"
#include "lib/takeover.h"
#include "lib/unserved.h"

/* Other backends that are tried when a reply could not be told apart from one
 * of another connection.
 */
#define TRIES 4

static __always_inline int forward(struct __sk_buff *skb, const struct packet *p, const struct addr *addr, __be16 port)
{
	int err = nat_rewrite(skb, p, NAT_DST, addr, port);

	if (err)
		return drop(-err);
	return deliver_local(skb, addr);
}

/* Rewrites both ends and sends the packet on. */
static __always_inline int pass_on(struct __sk_buff *skb, const struct packet *p, const struct ct *ct,
				   const struct bpf_fib_lookup *way)
{
	int err = nat_rewrite(skb, p, NAT_DST, &ct->addr, ct->port);

	if (!err)
		err = nat_rewrite(skb, p, NAT_SRC, &ct->from, ct->from_port);
	return err ? drop(-err) : route_send(skb, way);
}

/* Opens a connection to a backend of another node. */
static __always_inline int open_remote(struct __sk_buff *skb, const struct packet *p, const struct backend *backend)
{
	struct bpf_fib_lookup way;
	const struct pod_addrs *own;
	struct ct request;
	struct addr from;
	__u32 out;
	int err = route_lookup(skb, p, &backend->addr, &way);

	if (err)
		return drop(-err);
	out = way.ifindex;
	own = bpf_map_lookup_elem(&uplinks, &out);
	if (!own)
		return drop(DROP_REMOTE_BACKEND);
	from = own->v4;
	barrier_var(own); /* or the offset is computed, which the verifier cannot follow */
	if (p->v6)
		from = own->v6;
	if (!from.w[3])
		return drop(DROP_REMOTE_BACKEND);
	err = route_hop(skb, p);
	if (!err)
		err = snat_create(skb, &p->tuple, backend, &from, &request);
	return err ? drop(-err) : pass_on(skb, p, &request, &way);
}

static __always_inline int open(struct __sk_buff *skb, const struct packet *p)
{
	struct frontend_key key = {
		.addr = p->tuple.dst,
		.port = p->tuple.dport,
		.proto = p->tuple.proto,
		.scope = SCOPE_EXTERNAL,
	};
	enum drop_reason reason = DROP_NO_ENDPOINT;

	if (takeover_keeps(skb, p, &key))
		return VERDICT_NEXT;
	for (int i = 0; i < TRIES; i++) {
		struct backend backend;
		/* What a client had before comes first, anything else after. */
		int result = i ? svc_select(&key, &backend) : svc_select_for(&key, &p->tuple.src, &backend);

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
		if (takeover_conflicts(skb, &p->tuple, &backend)) {
			reason = DROP_CT_FULL;
			continue;
		}
		result = ct_create(&p->tuple, &backend, skb->ifindex);
		if (!result)
			return forward(skb, p, &backend.addr, backend.port);
		reason = -result;
	}
	return drop(reason);
}

/* A packet of a connection with a backend of another node, either way. */
static __always_inline int follow(struct __sk_buff *skb, const struct packet *p, const struct ct *known)
{
	struct bpf_fib_lookup way;
	struct ct ct = *known;
	int err = route_lookup(skb, p, &ct.addr, &way);

	if (!err)
		err = route_hop(skb, p);
	return err ? drop(-err) : pass_on(skb, p, &ct, &way);
}

SEC("tc")
int uplink_in(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *known;

	/* What cannot be parsed is left to the host's stack. */
	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	if (!p.ports)
		return echo(skb, &p, SCOPE_EXTERNAL, 0);
	known = ct_find(&p.tuple);
	if (known && known->action == CT_DNAT) {
		struct addr addr = known->addr;

		return forward(skb, &p, &addr, known->port);
	}
	if (known && known->action == CT_BOTH)
		return follow(skb, &p, known);
	return open(skb, &p);
}

/* Replies of sockets of the node itself, and of pods that came by the host's
 * stack.
 */
SEC("tc")
int uplink_out(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *reply;
	int err;

	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	/* The node itself asks: the answer comes in where the request went out. */
	if (!p.ports)
		return echo(skb, &p, SCOPE_CLUSTER, BPF_F_INGRESS);
	reply = ct_find(&p.tuple);
	if (!reply || reply->action != CT_SNAT)
		return refuse_unserved(skb, &p, BPF_F_INGRESS);
	struct ct nat = *reply;

	err = nat_rewrite(skb, &p, NAT_SRC, &nat.addr, nat.port);
	return err ? drop(-err) : VERDICT_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
