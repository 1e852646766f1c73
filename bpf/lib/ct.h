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

/* Fills in the tuple of the packets that go the other way. */
static __always_inline void ct_back(const struct tuple *tuple, const struct ct *ct, struct tuple *back)
{
	__builtin_memset(back, 0, sizeof(*back));
	back->proto = tuple->proto;
	if (ct->action == CT_SNAT) {
		back->src = tuple->dst;
		back->sport = tuple->dport;
		back->dst = ct->addr;
		back->dport = ct->port;
		return;
	}
	back->src = ct->addr;
	back->sport = ct->port;
	back->dst = ct->action == CT_DNAT ? tuple->src : ct->from;
	back->dport = ct->action == CT_DNAT ? tuple->sport : ct->from_port;
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
	ct_back(&p->tuple, found, &back);
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
	struct tuple requests;

	if (!other->closed && ct_idle(other, now) < idle)
		return false;
	ct_back(back, other, &requests);
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

/* What does not fit on the stack: an entry that is about to be made. Kernels before
 * 6.2 take no argument of a function as key or value of a map. No program that uses
 * this interrupts another on the same CPU.
 */
struct ct_scratch {
	struct tuple key;
	struct ct entry;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ct_scratch);
} ct_scratch SEC(".maps");

static __always_inline struct ct_scratch *ct_space(void)
{
	const __u32 only = 0;

	return bpf_map_lookup_elem(&ct_scratch, &only);
}

/* Enters what to do with requests, which is in the scratch space, and fills it in. */
static __always_inline int ct_enter_request(struct ct_scratch *s, const struct tuple *tuple, struct ct *request)
{
	s->key = *tuple;
	*request = s->entry;
	return bpf_map_update_elem(&conntrack, &s->key, &s->entry, BPF_ANY) ? -DROP_CT_FULL : 0;
}

/* Enters both ways of a connection to a service: requests go to the backend,
 * replies come from the service address. Fills in what to do with requests. Returns
 * 0, or a negative number when the way back belongs to another connection. The
 * verifier looks at it by itself.
 */
__noinline int ct_create(const struct tuple *tuple, const struct backend *backend, __u32 ifindex, struct ct *request)
{
	struct ct_scratch *s = ct_space();

	if (!s || !tuple || !backend || !request)
		return -DROP_REWRITE;
	/* Field by field: a literal would be made on the stack first. */
	__builtin_memset(s, 0, sizeof(*s));
	s->key.src = backend->addr;
	s->key.dst = tuple->src;
	s->key.sport = backend->port;
	s->key.dport = tuple->sport;
	s->key.proto = tuple->proto;
	s->entry.addr = tuple->dst;
	s->entry.port = tuple->dport;
	s->entry.action = CT_SNAT;
	s->entry.reply = true;
	s->entry.ifindex = ifindex;
	s->entry.seen = bpf_ktime_get_coarse_ns();
	if (!ct_enter_reply(&s->key, &s->entry))
		return -DROP_CT_FULL;
	s->entry.addr = backend->addr;
	s->entry.port = backend->port;
	s->entry.action = CT_DNAT;
	s->entry.reply = false;
	return ct_enter_request(s, tuple, request);
}
