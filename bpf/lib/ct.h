/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "addr.h"
#include "maps.h"
#include "packet.h"

#define SECOND 1000000000ULL

/* An entry that was not used for this long may be replaced by another
 * connection with the same tuple.
 */
#define CT_STALE (120 * SECOND)

/* The same for datagrams, most of which are answered at once. The connection that
 * gives way begins anew with its next one.
 */
#define CT_STALE_DATAGRAM (10 * SECOND)

/* For how long an entry was not used. It may have been used since now was read. */
static __always_inline __s64 ct_idle(const struct ct *ct, __u64 now)
{
	return now - ct->seen;
}

static __always_inline bool ct_stale(const struct ct *ct, __u64 now)
{
	return ct_idle(ct, now) >= (__s64)CT_STALE;
}

/* Tells whether a SYN belongs to another connection than the one that was closed. An
 * answer to one is sent again until the other end has it, which may have closed.
 */
static __always_inline bool ct_again(const struct packet *p, const struct ct *known)
{
	if (!(p->tcp_flags & TCP_SYN))
		return false;
	return known->closed & (p->tcp_flags & TCP_ACK ? CT_OVER : CT_CLOSED);
}

/* Finds what to do with a packet. Datagrams after a long pause are those of another
 * client, or may be; and a SYN after the end of a connection, or a long pause, begins
 * another one: before that it is the same one, sent again. The old one is forgotten:
 * the new one need not be a service's. The clock is the coarse one, as everywhere
 * here: to read it takes a tenth of the time. Several CPUs may set the time at once;
 * all set the same, give or take a moment.
 */
static __always_inline struct ct *ct_find(const struct packet *p)
{
	struct ct *found = bpf_map_lookup_elem(&conntrack, &p->tuple);
	bool begins = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN || p->tuple.proto == IPPROTO_UDP;
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!found)
		return NULL;
	if (ct_again(p, found) || (begins && ct_stale(found, now))) {
		bpf_map_delete_elem(&conntrack, &p->tuple);
		return NULL;
	}
	if (ct_idle(found, now) > (__s64)SECOND)
		found->seen = now;
	return found;
}

/* The tuple of the packets that go the other way. */
static __always_inline struct tuple ct_back(const struct tuple *tuple, const struct ct *ct)
{
	struct tuple back = { .src = ct->addr, .sport = ct->port, .proto = tuple->proto };

	switch (ct->action) {
	case CT_DNAT:
		back.dst = tuple->src;
		back.dport = tuple->sport;
		break;
	case CT_SNAT:
		back = (struct tuple){
			.src = tuple->dst,
			.sport = tuple->dport,
			.dst = ct->addr,
			.dport = ct->port,
			.proto = tuple->proto,
		};
		break;
	default:
		back.dst = ct->from;
		back.dport = ct->from_port;
	}
	return back;
}

/* As ct_find, and notes the end of TCP connections: a client that uses its port
 * again begins another one, which gets a backend of its own. One end may still
 * send after the other has closed, unless that was by a reset.
 */
static __always_inline struct ct *ct_track(const struct packet *p)
{
	struct ct *found = ct_find(p), *other;
	struct tuple back;

	/* One that begins and ends at once is nobody's, and must be the same to who
	 * sees it after XDP.
	 */
	if (!found || p->tcp_flags & TCP_SYN || !(p->tcp_flags & (TCP_FIN | TCP_RST)))
		return found;
	back = ct_back(&p->tuple, found);
	other = bpf_map_lookup_elem(&conntrack, &back);
	if (other)
		other->closed |= p->tcp_flags & TCP_RST ? CT_CLOSED | CT_OVER : CT_CLOSED;
	found->closed |= CT_CLOSED | CT_OVER;
	return found;
}

/* Tells whether another connection may have a way back, and takes out the requests
 * that belong to it: their next one opens a connection anew.
 */
static __always_inline bool ct_replace(const struct tuple *back, const struct ct *other, __u64 now)
{
	__s64 idle = back->proto == IPPROTO_UDP ? CT_STALE_DATAGRAM : CT_STALE;
	struct tuple requests = ct_back(back, other);

	if (!other->closed && ct_idle(other, now) < idle)
		return false;
	bpf_map_delete_elem(&conntrack, &requests);
	return true;
}

/* Enters the way back of a connection, unless it belongs to another one. Most have
 * none yet, so that is tried first.
 */
static __always_inline bool ct_enter_reply(const struct tuple *back, const struct ct *reply)
{
	const struct ct *other;

	if (!bpf_map_update_elem(&conntrack, back, reply, BPF_NOEXIST))
		return true;
	other = bpf_map_lookup_elem(&conntrack, back);
	if (other && (other->port != reply->port || !addr_equal(&other->addr, &reply->addr)) &&
	    !ct_replace(back, other, reply->seen))
		return false;
	return !bpf_map_update_elem(&conntrack, back, reply, BPF_ANY);
}

/* Enters both ways of a connection to a service: requests go to the backend,
 * replies come from the service address. Fills in what to do with requests. Returns
 * 0, or a negative number when the way back belongs to another connection. The
 * verifier looks at it by itself.
 */
__noinline int ct_create(const struct tuple *tuple, const struct backend *backend, __u32 ifindex, struct ct *request)
{
	struct tuple back = {};
	struct ct reply = { .action = CT_SNAT, .reply = true, .ifindex = ifindex };

	if (!tuple || !backend || !request)
		return -DROP_REWRITE;
	back.src = backend->addr;
	back.dst = tuple->src;
	back.sport = backend->port;
	back.dport = tuple->sport;
	back.proto = tuple->proto;
	reply.addr = tuple->dst;
	reply.port = tuple->dport;
	reply.seen = bpf_ktime_get_coarse_ns();
	*request = (struct ct){
		.addr = backend->addr,
		.port = backend->port,
		.action = CT_DNAT,
		.ifindex = ifindex,
		.seen = reply.seen,
	};
	if (!ct_enter_reply(&back, &reply) || bpf_map_update_elem(&conntrack, tuple, request, BPF_ANY))
		return -DROP_CT_FULL;
	return 0;
}
