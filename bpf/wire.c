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

#include "lib/ct.h"
#include "lib/drop.h"
#include "lib/frame.h"
#include "lib/route.h"
#include "lib/snat.h"
#include "lib/svc.h"

#define IPV6_MIN_MTU 1280

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
static __always_inline int wire_open_remote(struct xdp_md *ctx, const struct packet *p, const struct backend *backend)
{
	struct bpf_fib_lookup way;
	struct ct request;
	long result = wire_route(ctx, p, &backend->addr, &way);
	int err;

	/* Too big: the kernel does not say for which interface. Nothing is entered. */
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return XDP_PASS;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return wire_drop(DROP_FIB);
	err = snat_open(&p->tuple, backend, way.ifindex, &request);
	return err ? wire_drop(-err) : wire_send(ctx, p, &request, result, &way);
}

static __always_inline int wire_open(struct xdp_md *ctx, const struct packet *p)
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
		struct backend backend;
		int result =
			i ? svc_select(&key, &backend) : svc_select_for(&key, &p->tuple.src, p->tuple.sport, &backend);

		/* No service, or one that refuses: nothing was chosen. */
		if (result != SVC_FOUND)
			return XDP_PASS;
		if (!backend.flags)
			return wire_open_remote(ctx, p, &backend);
		result = ct_create(&p->tuple, &backend, ctx->ingress_ifindex);
		if (!result)
			return XDP_PASS;
		reason = -result;
	}
	return wire_drop(reason);
}

SEC("xdp.frags")
int wire(struct xdp_md *ctx)
{
	struct bpf_fib_lookup way;
	struct packet p;
	const struct ct *known;

	if (!frame_parse(ctx, &p))
		return XDP_PASS;
	known = ct_track(&p);
	if (!known)
		return wire_open(ctx, &p);
	if (known->action == CT_BOTH || (known->action == CT_DSR && frame_continues(ctx, &p))) {
		struct ct ct = *known;
		long result = wire_route(ctx, &p, &ct.addr, &way);

		return wire_send(ctx, &p, &ct, result, &way);
	}
	/* As for tcx, a reply is no connection of its own. */
	return known->action == CT_SNAT ? wire_open(ctx, &p) : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
