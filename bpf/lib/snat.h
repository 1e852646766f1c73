/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "ct.h"

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

/* Enters the way back, under a port that no other connection uses, which is filled
 * in. Returns the port, or a negative drop reason.
 */
static __always_inline int snat_reply(struct tuple *back, const struct ct *reply)
{
	for (int i = 0; i < SNAT_TRIES; i++) {
		const struct ct *other;

		back->dport = bpf_htons(SNAT_FIRST + bpf_get_prandom_u32() % SNAT_COUNT);
		/* Of two CPUs that try the same port at once, one gets it. */
		if (!bpf_map_update_elem(&conntrack, back, reply, BPF_NOEXIST))
			return back->dport;
		other = bpf_map_lookup_elem(&conntrack, back);
		if (other && ct_stale(other, reply->seen) && !bpf_map_update_elem(&conntrack, back, reply, BPF_ANY))
			return back->dport;
	}
	return -DROP_SNAT_PORTS;
}

/* Enters both ways of a connection from another host to a backend of another
 * node. Fills in what to do with its packets. The verifier looks at it by itself.
 */
__noinline int snat_create(const struct tuple *tuple, const struct backend *backend, const struct addr *own,
			   struct ct *request)
{
	struct ct_scratch *s = ct_space();
	int port;

	if (!s || !tuple || !backend || !own || !request)
		return -DROP_REWRITE;
	__builtin_memset(s, 0, sizeof(*s));
	s->key.src = backend->addr;
	s->key.dst = *own;
	s->key.sport = backend->port;
	s->key.proto = tuple->proto;
	s->entry.addr = tuple->src;
	s->entry.port = tuple->sport;
	s->entry.from = tuple->dst;
	s->entry.from_port = tuple->dport;
	s->entry.action = CT_BOTH;
	s->entry.reply = true;
	s->entry.seen = bpf_ktime_get_coarse_ns();
	port = snat_reply(&s->key, &s->entry);
	if (port < 0)
		return port;
	s->entry.addr = backend->addr;
	s->entry.port = backend->port;
	s->entry.from = *own;
	s->entry.from_port = port;
	s->entry.reply = false;
	return ct_enter_request(s, tuple, request);
}

/* Enters a connection that leaves through an uplink, with this node's address
 * there as its source.
 */
static __always_inline int snat_open(const struct tuple *tuple, const struct backend *backend, __u32 uplink,
				     struct ct *request)
{
	const struct uplink *out = bpf_map_lookup_elem(&uplinks, &uplink);
	struct addr own;

	if (!out)
		return -DROP_REMOTE_BACKEND;
	own = out->v4;
	barrier_var(out); /* or the offset is computed, which the verifier cannot follow */
	if (!addr_is_v4(&tuple->src))
		own = out->v6;
	return own.w[3] ? snat_create(tuple, backend, &own, request) : -DROP_REMOTE_BACKEND;
}
