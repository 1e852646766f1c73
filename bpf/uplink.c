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
#include "lib/dsr.h"
#include "lib/echo.h"
#include "lib/nat.h"
#include "lib/route.h"
#include "lib/snat.h"
#include "lib/svc.h"
#include "lib/unserved.h"

/* Into the program's debug information, and from there to Go: maps in maps do
 * not name the types of their entries.
 */
const struct frontend_key *unused_frontend_key __attribute__((unused));
const struct frontend *unused_frontend __attribute__((unused));
const struct backend *unused_backend __attribute__((unused));

/* Functions that are not inlined have a stack frame of their own, which is empty
 * again when they return: all together would not fit.
 */

static __noinline int forward(struct __sk_buff *skb, const struct packet *p, const struct addr *addr, __be16 port)
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
	struct ct request;
	int err = route_lookup(skb, p, &backend->addr, &way);

	if (!err)
		err = route_hop(skb, p);
	if (!err)
		err = snat_open(&p->tuple, backend, way.ifindex, &request);
	return err ? drop(-err) : pass_on(skb, p, &request, &way);
}

/* Sends a packet to a backend of another node, which answers the client itself. */
static __always_inline int pass_direct(struct __sk_buff *skb, const struct packet *p, const struct addr *addr,
				       __be16 port, int option, const struct bpf_fib_lookup *way)
{
	int err = nat_rewrite(skb, p, NAT_DST, addr, port);

	if (!err && option == DSR_FITS)
		err = dsr_push(skb, p);
	return err ? drop(-err) : route_send(skb, way);
}

/* Opens a connection that is answered by the backend's node. A datagram that has no
 * room for the option is passed on as without it, and so are those after it.
 */
static __always_inline int open_direct(struct __sk_buff *skb, const struct packet *p, const struct backend *backend)
{
	struct bpf_fib_lookup way;
	int option = dsr_route(skb, p, &backend->addr, &way);
	int err;

	if (option == DSR_NO_ROOM)
		return open_remote(skb, p, backend);
	err = option < 0 ? option : route_hop(skb, p);
	if (!err)
		err = dsr_create(&p->tuple, backend);
	return err ? drop(-err) : pass_direct(skb, p, &backend->addr, backend->port, option, &way);
}

/* A packet of a connection that is answered by the backend's node. What has no room
 * for the option goes without: that node has seen it on the first one.
 */
static __noinline int follow_direct(struct __sk_buff *skb, const struct packet *p, const struct ct *known)
{
	struct bpf_fib_lookup way;
	struct addr addr = known->addr;
	__be16 port = known->port;
	int option = dsr_route(skb, p, &addr, &way);
	int err = option < 0 ? option : route_hop(skb, p);

	return err ? drop(-err) : pass_direct(skb, p, &addr, port, option, &way);
}

/* A packet that another node has sent to a backend here. */
static __noinline int accept_direct(struct __sk_buff *skb, const struct packet *p, const struct frontend_key *service)
{
	struct bpf_fib_lookup way;
	__u32 uplink = skb->ifindex;
	int err;

	/* Where the client is; it need not be where this came from. */
	if (!route_found(route_ask(skb, uplink, p, &p->tuple.src, 0, &way), &way))
		uplink = way.ifindex;
	err = dsr_enter(&p->tuple, service, uplink);
	if (err > 0)
		return VERDICT_NEXT;
	if (!err)
		err = dsr_pop(skb, p);
	return err ? drop(-err) : deliver_local(skb, &p->tuple.dst);
}

static __always_inline struct frontend_key external_key(const struct packet *p)
{
	struct frontend_key key = {
		.addr = p->tuple.dst,
		.port = p->tuple.dport,
		.proto = p->tuple.proto,
		.scope = SCOPE_EXTERNAL,
	};

	return key;
}

/* What choose returns besides verdicts; none of them is one. */
enum choice {
	CHOICE_BACKEND = 0,
	CHOICE_REFUSE = 100,
};

/* Chooses a backend for a new connection, and enters the connection when that is
 * here. Returns what is to be done, or the verdict on a packet for which there is
 * none.
 */
static __noinline int choose(struct __sk_buff *skb, const struct packet *p, struct backend *backend)
{
	struct frontend_key key = external_key(p);
	enum drop_reason reason = DROP_NO_ENDPOINT;

	for (int i = 0; i < SVC_TRIES; i++) {
		/* What a client had before comes first, anything else after. */
		int result =
			i ? svc_select(&key, backend) : svc_select_for(&key, &p->tuple.src, p->tuple.sport, backend);

		if (result == SVC_NONE)
			return VERDICT_NEXT;
		if (result == SVC_EMPTY)
			return CHOICE_REFUSE;
		if (result == SVC_DENIED)
			return drop(DROP_SOURCE_RANGE);
		if (result != SVC_FOUND)
			break;
		if (!backend->flags)
			return CHOICE_BACKEND;
		result = ct_create(&p->tuple, backend, skb->ifindex);
		if (!result)
			return CHOICE_BACKEND;
		reason = -result;
	}
	return drop(reason);
}

static __noinline int refuse(struct __sk_buff *skb, const struct packet *p)
{
	return reject(skb, p, 0);
}

static __noinline int open_elsewhere(struct __sk_buff *skb, const struct packet *p, const struct backend *backend)
{
	struct frontend_key key = external_key(p);

	return dsr_is(&key) ? open_direct(skb, p, backend) : open_remote(skb, p, backend);
}

static __always_inline int open(struct __sk_buff *skb, const struct packet *p)
{
	struct backend backend = {};
	int verdict = choose(skb, p, &backend);

	if (verdict == CHOICE_REFUSE)
		return refuse(skb, p);
	if (verdict != CHOICE_BACKEND)
		return verdict;
	if (backend.flags)
		return forward(skb, p, &backend.addr, backend.port);
	return open_elsewhere(skb, p, &backend);
}

/* A packet of a connection with a backend of another node, either way. */
static __noinline int follow(struct __sk_buff *skb, const struct packet *p, const struct ct *known)
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
	struct frontend_key service;
	struct packet p;
	const struct ct *known;

	/* What cannot be parsed is left to the host's stack. */
	if (packet_parse(skb, &p))
		return VERDICT_NEXT;
	if (!p.ports)
		return echo(skb, &p, SCOPE_EXTERNAL, 0);
	if (dsr_read(skb, &p, &service))
		return accept_direct(skb, &p, &service);
	known = ct_track(&p);
	if (known && known->action == CT_DNAT) {
		struct addr addr = known->addr;

		return forward(skb, &p, &addr, known->port);
	}
	if (known && known->action == CT_BOTH)
		return follow(skb, &p, known);
	if (known && known->action == CT_DSR)
		return follow_direct(skb, &p, known);
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
	reply = ct_track(&p);
	if (!reply || reply->action != CT_SNAT)
		return refuse_unserved(skb, &p, BPF_F_INGRESS);
	struct ct nat = *reply;

	err = nat_rewrite(skb, &p, NAT_SRC, &nat.addr, nat.port);
	return err ? drop(-err) : VERDICT_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
