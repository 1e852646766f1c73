/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Traffic between other hosts and this node, at its uplinks: connections to a
 * NodePort, external or load-balancer address get a backend, and replies get the
 * service address back. What goes to a backend of another node has this node's
 * address as its source, so that the replies come back here, or tells that node by
 * which address the client came, so that it answers itself.
 */

#include <stddef.h>

#include "lib/choose.h"
#include "lib/ct.h"
#include "lib/deliver.h"
#include "lib/dsr.h"
#include "lib/echo.h"
#include "lib/error.h"
#include "lib/fragment.h"
#include "lib/nat.h"
#include "lib/route.h"
#include "lib/snat.h"
#include "lib/svc.h"
#include "lib/takeover.h"
#include "lib/unserved.h"

/* Into the program's debug information, and from there to Go: maps in maps do
 * not name the types of their entries.
 */
const struct frontend_key *unused_frontend_key __attribute__((unused));
const struct frontend *unused_frontend __attribute__((unused));
const struct backend *unused_backend __attribute__((unused));

/* What does not fit on the stack. uplink_in does not interrupt itself on a CPU. */
struct uplink_scratch {
	struct bpf_fib_lookup way;
	struct backend backend;
	struct frontend_key service;
	struct ct ct;
	struct tuple back;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct uplink_scratch));
} uplink_scratch SEC(".maps");

static __always_inline struct uplink_scratch *scratch(void)
{
	const __u32 only = 0;

	return bpf_map_lookup_elem(&uplink_scratch, &only);
}

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

/* Enters a connection to a backend of another node, with a source port that
 * netfilter has not given to another one.
 */
static __always_inline int enter_remote(struct __sk_buff *skb, const struct packet *p, struct uplink_scratch *s)
{
	for (int i = 0; i < SVC_TRIES; i++) {
		int err = snat_open(&p->tuple, &s->backend, s->way.ifindex, &s->ct);

		if (err || !takeover_now())
			return err;
		ct_back(&p->tuple, &s->ct, &s->back);
		if (!takeover_uses(skb, &s->back))
			return 0;
		bpf_map_delete_elem(&conntrack, &s->back);
		s->back = p->tuple;
		bpf_map_delete_elem(&conntrack, &s->back);
	}
	return -DROP_SNAT_PORTS;
}

/* Opens a connection to a backend of another node. */
static __always_inline int open_remote(struct __sk_buff *skb, struct packet *p, struct uplink_scratch *s)
{
	int err = route_lookup(skb, p, &s->backend.addr, &s->way);

	if (err)
		return lost(p, err, &s->way);
	err = route_hop(skb, p);
	if (!err)
		err = enter_remote(skb, p, s);
	return err ? drop(-err) : pass_on(skb, p, &s->ct, &s->way);
}

/* Sends a packet to a backend of another node, which answers the client itself. */
static __always_inline int pass_direct(struct __sk_buff *skb, const struct packet *p, struct uplink_scratch *s,
				       int option)
{
	int err;

	s->ct.action = CT_DNAT;
	err = nat_apply(skb, p, &s->ct);
	if (!err && option == DSR_FITS)
		err = dsr_push(skb, p);
	return err ? drop(-err) : route_send(skb, &s->way);
}

/* Opens a connection that is answered by the backend's node. A datagram that has no
 * room for the option is passed on as without it, and so are those after it.
 */
static __always_inline int open_direct(struct __sk_buff *skb, struct packet *p, struct uplink_scratch *s)
{
	int option = dsr_route(skb, p, &s->backend.addr, &s->way);
	int err;

	if (option == DSR_NO_ROOM)
		return open_remote(skb, p, s);
	if (option < 0)
		return lost(p, option, &s->way);
	s->back = p->tuple;
	err = route_hop(skb, p);
	if (!err)
		err = dsr_create(&s->back, &s->backend, &s->ct);
	return err ? drop(-err) : pass_direct(skb, p, s, option);
}

/* Opens a connection to the backend in the scratch space, on another node, by the
 * frontend there. The verifier looks at it by itself, as at all that is not inlined.
 */
__noinline int open_elsewhere(struct __sk_buff *skb, struct packet *p)
{
	struct uplink_scratch *s = scratch();

	if (!p || !s)
		return drop(DROP_INVALID);
	return dsr_is(&s->service) ? open_direct(skb, p, s) : open_remote(skb, p, s);
}

/* What may be the first packet of a connection. */
__noinline int open(struct __sk_buff *skb, struct packet *p)
{
	struct uplink_scratch *s = scratch();
	enum drop_reason reason = DROP_NO_ENDPOINT;

	if (!p || !s)
		return drop(DROP_INVALID);
	s->service.addr = p->tuple.dst;
	s->service.port = p->tuple.dport;
	s->service.proto = p->tuple.proto;
	s->service.scope = SCOPE_EXTERNAL;
	if (takeover_keeps(skb, p, &s->service))
		return VERDICT_NEXT;
	for (int i = 0; i < SVC_TRIES; i++) {
		int result = choose(p, SCOPE_EXTERNAL, i, &s->backend);

		if (result == SVC_NONE)
			return VERDICT_NEXT;
		if (result == SVC_EMPTY)
			return reject(skb, p, 0);
		if (result == SVC_DENIED)
			return drop(DROP_SOURCE_RANGE);
		if (result != SVC_FOUND)
			break;
		if (!s->backend.flags)
			return open_elsewhere(skb, p);
		if (takeover_conflicts(skb, &p->tuple, &s->backend)) {
			reason = DROP_CT_FULL;
			continue;
		}
		result = ct_create(&p->tuple, &s->backend, skb->ifindex, &s->ct);
		if (!result)
			return forward(skb, p, &s->ct);
		reason = -result;
	}
	return drop(reason);
}

/* A packet of a connection that is answered by the backend's node. What has no room
 * for the option goes without: that node has seen it on the first one.
 */
static __always_inline int follow_direct(struct __sk_buff *skb, struct packet *p, struct uplink_scratch *s)
{
	int option = dsr_route(skb, p, &s->ct.addr, &s->way);
	int err;

	if (option < 0)
		return lost(p, option, &s->way);
	err = route_hop(skb, p);
	return err ? drop(-err) : pass_direct(skb, p, s, option);
}

/* A packet of a known connection: requests to a backend of this node, and both
 * ways of one with another node's.
 */
__noinline int follow(struct __sk_buff *skb, struct packet *p, const struct ct *known)
{
	struct uplink_scratch *s = scratch();
	int err;

	if (!p || !known || !s)
		return drop(DROP_INVALID);
	s->ct = *known;
	if (s->ct.action == CT_DNAT)
		return forward(skb, p, &s->ct);
	if (s->ct.action == CT_DSR)
		return follow_direct(skb, p, s);
	err = route_lookup(skb, p, &s->ct.addr, &s->way);
	if (err)
		return lost(p, err, &s->way);
	err = route_hop(skb, p);
	return err ? drop(-err) : pass_on(skb, p, &s->ct, &s->way);
}

/* A packet that another node has sent to a backend here; the scratch space has by
 * which frontend the client came.
 */
__noinline int accept_direct(struct __sk_buff *skb, struct packet *p)
{
	struct uplink_scratch *s = scratch();
	__u32 uplink = skb->ifindex;
	int err;

	if (!p || !s)
		return drop(DROP_INVALID);
	/* Where the client is; it need not be where this came from. */
	if (!route_found(route_ask(skb, uplink, p, &p->tuple.src, 0, &s->way), &s->way))
		uplink = s->way.ifindex;
	err = dsr_enter(&p->tuple, &s->service, uplink, &s->ct);
	if (err > 0)
		return VERDICT_NEXT;
	if (!err)
		err = dsr_pop(skb, p);
	return err ? drop(-err) : deliver_local(skb, &p->tuple.dst);
}

/* ICMP: errors about connections through this node, and echo requests. */
__noinline int icmp_in(struct __sk_buff *skb, struct packet *p)
{
	struct uplink_scratch *s = scratch();
	int result;

	if (!p || !s)
		return VERDICT_NEXT;
	result = error_translate(skb, p, CT_DNAT, &s->ct);
	if (!result)
		return echo(skb, p, SCOPE_EXTERNAL, 0);
	if (result < 0)
		return drop(-result);
	if (s->ct.action == CT_DNAT)
		return deliver_local(skb, &p->tuple.dst);
	result = route_lookup(skb, p, &p->tuple.dst, &s->way);
	if (!result)
		result = route_hop(skb, p);
	return result ? drop(-result) : route_send(skb, &s->way);
}

/* A packet of TCP, UDP or SCTP. */
static __always_inline int transport_in(struct __sk_buff *skb, struct packet *p)
{
	struct uplink_scratch *s = scratch();
	const struct ct *known;

	if (!s)
		return drop(DROP_INVALID);
	if (dsr_read(skb, p, &s->service))
		return accept_direct(skb, p);
	known = ct_track(p);
	if (known && known->action != CT_SNAT)
		return follow(skb, p, known);
	if (!p->later)
		return open(skb, p);
	/* The connection of its first fragment was forgotten meanwhile. */
	return svc_has(&p->tuple.dst, SCOPE_EXTERNAL) ? drop(DROP_FRAGMENT) : VERDICT_NEXT;
}

SEC("tc")
int uplink_in(struct __sk_buff *skb)
{
	struct packet p;
	int verdict;

	/* What cannot be parsed is left to the host's stack. */
	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	if (p.later && fragment_lost(&p, SCOPE_EXTERNAL))
		return drop(DROP_FRAGMENT);
	verdict = p.ports ? transport_in(skb, &p) : icmp_in(skb, &p);
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
	reply = ct_track(&p);
	if (!reply || reply->action != CT_SNAT)
		return refuse_unserved(skb, &p, BPF_F_INGRESS);
	nat = *reply;
	err = nat_apply(skb, &p, &nat);
	return err ? drop(-err) : VERDICT_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
