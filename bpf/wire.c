/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* The fast way for traffic between other hosts and this node, in the drivers of
 * its uplinks: what goes to a backend of another node, or comes from there, is
 * sent on at once. What stays here, and all that is not plain, goes up to
 * uplink_in, which knows everything that is done here, too. A backend that was
 * chosen here is in conntrack when the packet goes up, so that none is chosen
 * twice.
 */

#include <stddef.h>

#include "lib/choose.h"
#include "lib/ct.h"
#include "lib/drop.h"
#include "lib/frame.h"
#include "lib/route.h"
#include "lib/settings.h"
#include "lib/snat.h"
#include "lib/svc.h"

#define IPV6_MIN_MTU 1280

/* What does not fit on the stack. */
struct wire_scratch {
	struct bpf_fib_lookup way;
	struct backend backend;
	struct ct ct;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct wire_scratch));
} wire_scratch SEC(".maps");

static __always_inline struct wire_scratch *scratch(void)
{
	const __u32 only = 0;

	return bpf_map_lookup_elem(&wire_scratch, &only);
}

static __always_inline int wire_drop(enum drop_reason reason)
{
	drop_count(reason);
	return XDP_DROP;
}

static __always_inline long wire_route(struct xdp_md *ctx, const struct packet *p, const struct addr *to,
				       struct bpf_fib_lookup *way)
{
	__u32 length = p->end - ETH_HLEN;

	/* Each link takes this much of IPv6, and the kernel takes long to find out. */
	if (p->v6 && length <= IPV6_MIN_MTU)
		length = 0;
	return route_ask(ctx, ctx->ingress_ifindex, p, to, length, way);
}

/* Tells whether XDP may send out of an interface. Where this program is attached
 * it may.
 */
static __always_inline bool wire_reaches(const struct xdp_md *ctx, __u32 ifindex)
{
	const struct uplink *out;

	if (ifindex == ctx->ingress_ifindex)
		return true;
	out = bpf_map_lookup_elem(&uplinks, &ifindex);
	return out && out->flags & UPLINK_XDP;
}

/* Sends a packet of a known connection. What has no neighbour yet, or is too big,
 * goes up.
 */
static __always_inline int wire_send(struct xdp_md *ctx, const struct packet *p, const struct ct *ct, long result,
				     const struct bpf_fib_lookup *way)
{
	if (result != BPF_FIB_LKUP_RET_SUCCESS || !wire_reaches(ctx, way->ifindex))
		return XDP_PASS;
	if (!frame_rewrite(ctx, p, ct, way))
		return wire_drop(DROP_REWRITE);
	return way->ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(way->ifindex, 0);
}

/* Opens a connection to a backend of another node. */
static __always_inline int wire_open_remote(struct xdp_md *ctx, const struct packet *p, struct wire_scratch *s)
{
	long result = wire_route(ctx, p, &s->backend.addr, &s->way);
	int err;

	/* Too big: the kernel does not say for which interface. Nothing is entered. */
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return XDP_PASS;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return wire_drop(DROP_FIB);
	err = snat_open(&p->tuple, &s->backend, s->way.ifindex, &s->ct);
	return err ? wire_drop(-err) : wire_send(ctx, p, &s->ct, result, &s->way);
}

static __always_inline int wire_open(struct xdp_md *ctx, const struct packet *p, struct wire_scratch *s)
{
	struct frontend_key key = {
		.addr = p->tuple.dst,
		.port = p->tuple.dport,
		.proto = p->tuple.proto,
		.scope = SCOPE_EXTERNAL,
	};
	enum drop_reason reason = DROP_NO_ENDPOINT;
	const struct frontend *found = svc_frontend(&key);

	/* No service, or one whose first packets take an option along. */
	if (!found || found->flags & FRONTEND_DSR)
		return XDP_PASS;
	for (int i = 0; i < SVC_TRIES; i++) {
		int result = choose(p, SCOPE_EXTERNAL, i, &s->backend);

		/* No service, or one that refuses: nothing was chosen. */
		if (result != SVC_FOUND)
			return XDP_PASS;
		if (!s->backend.flags)
			return wire_open_remote(ctx, p, s);
		result = ct_create(&p->tuple, &s->backend, ctx->ingress_ifindex, &s->ct);
		if (!result)
			return XDP_PASS;
		reason = -result;
	}
	return wire_drop(reason);
}

SEC("xdp.frags")
int wire(struct xdp_md *ctx)
{
	struct wire_scratch *s = scratch();
	struct packet p;
	const struct ct *known;

	if (!s || !frame_parse(ctx, &p))
		return XDP_PASS;
	known = ct_track(&p);
	if (known && (known->action == CT_BOTH || (known->action == CT_DSR && !packet_opens(&p)))) {
		s->ct = *known;
		return wire_send(ctx, &p, &s->ct, wire_route(ctx, &p, &s->ct.addr, &s->way), &s->way);
	}
	if (known && known->action != CT_SNAT)
		return XDP_PASS;
	/* As for tcx, a reply is no connection of its own. What uplink_in gets it knows
	 * then: it would see the end of a connection that this packet has begun.
	 */
	if (p.tcp_flags & (TCP_FIN | TCP_RST))
		return XDP_PASS;
	/* What may be another proxy's is for uplink_in to tell. */
	return takeover_now() ? XDP_PASS : wire_open(ctx, &p, s);
}

char _license[] SEC("license") = "Dual BSD/GPL";
