/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "ct.h"
#include "takeover.h"

/* Source ports for connections that this node passes on to other nodes. They
 * are below those that the host's own sockets choose (ip_local_port_range), so
 * that a reply never belongs to both.
 */
#define SNAT_FIRST 1024
#define SNAT_COUNT (32768 - SNAT_FIRST)

/* Ports that are tried. With half of them in use for one backend, one in 65536
 * new connections finds none.
 */
#define SNAT_TRIES 16

/* Enters the way back from backend to own, under a port that no other connection
 * uses. Returns the port, or a negative drop reason.
 */
static __always_inline int snat_reply(struct __sk_buff *skb, const struct tuple *tuple, const struct backend *backend,
				      const struct addr *own)
{
	struct tuple back = {
		.src = backend->addr,
		.dst = *own,
		.sport = backend->port,
		.proto = tuple->proto,
	};
	struct ct reply = {
		.addr = tuple->src,
		.port = tuple->sport,
		.from = tuple->dst,
		.from_port = tuple->dport,
		.action = CT_BOTH,
		.seen = bpf_ktime_get_ns(),
	};

	for (int i = 0; i < SNAT_TRIES; i++) {
		const struct ct *other;

		back.dport = bpf_htons(SNAT_FIRST + bpf_get_prandom_u32() % SNAT_COUNT);
		if (takeover_uses(skb, &back))
			continue;
		/* Of two CPUs that try the same port at once, one gets it. */
		if (!bpf_map_update_elem(&conntrack, &back, &reply, BPF_NOEXIST))
			return back.dport;
		other = bpf_map_lookup_elem(&conntrack, &back);
		if (other && reply.seen - other->seen > CT_STALE &&
		    !bpf_map_update_elem(&conntrack, &back, &reply, BPF_ANY))
			return back.dport;
	}
	return -DROP_SNAT_PORTS;
}

/* Enters both ways of a connection from another host to a backend of another
 * node. Fills in what to do with its packets.
 */
static __always_inline int snat_create(struct __sk_buff *skb, const struct tuple *tuple, const struct backend *backend,
				       const struct addr *own, struct ct *request)
{
	int port = snat_reply(skb, tuple, backend, own);

	if (port < 0)
		return port;
	__builtin_memset(request, 0, sizeof(*request));
	request->addr = backend->addr;
	request->port = backend->port;
	request->from = *own;
	request->from_port = port;
	request->action = CT_BOTH;
	request->seen = bpf_ktime_get_ns();
	return bpf_map_update_elem(&conntrack, tuple, request, BPF_ANY) ? -DROP_CT_FULL : 0;
}
