/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "addr.h"
#include "maps.h"

#define SECOND 1000000000ULL

/* An entry that was not used for this long may be replaced by another
 * connection with the same tuple.
 */
#define CT_STALE (120 * SECOND)

/* Tells whether an entry was not used for long. It may have been used since now
 * was read.
 */
static __always_inline bool ct_stale(const struct ct *ct, __u64 now)
{
	return (__s64)(now - ct->seen) >= (__s64)CT_STALE;
}

/* Finds what to do with a packet of this tuple. The clock is the coarse one, as
 * everywhere here: to read it takes a tenth of the time. Several CPUs may set the time
 * at once; all set the same, give or take a moment.
 */
static __always_inline struct ct *ct_find(const struct tuple *tuple)
{
	struct ct *found = bpf_map_lookup_elem(&conntrack, tuple);
	__u64 now = bpf_ktime_get_coarse_ns();

	if (found && now - found->seen > SECOND)
		found->seen = now;
	return found;
}

/* Enters both ways of a connection to a service: requests go to the backend,
 * replies come from the service address. Returns 0, or a negative number when
 * the way back belongs to another connection.
 */
static __always_inline int ct_create(const struct tuple *tuple, const struct backend *backend, __u32 ifindex)
{
	struct tuple back = {
		.src = backend->addr,
		.dst = tuple->src,
		.sport = backend->port,
		.dport = tuple->sport,
		.proto = tuple->proto,
	};
	struct ct reply = {
		.addr = tuple->dst,
		.port = tuple->dport,
		.action = CT_SNAT,
		.ifindex = ifindex,
		.seen = bpf_ktime_get_coarse_ns(),
	};
	struct ct request = {
		.addr = backend->addr,
		.port = backend->port,
		.action = CT_DNAT,
		.ifindex = ifindex,
		.seen = reply.seen,
	};
	const struct ct *other = bpf_map_lookup_elem(&conntrack, &back);

	if (other && !ct_stale(other, reply.seen) &&
	    (other->port != tuple->dport || !addr_equal(&other->addr, &tuple->dst)))
		return -DROP_CT_FULL;
	if (bpf_map_update_elem(&conntrack, &back, &reply, BPF_ANY))
		return -DROP_CT_FULL;
	if (bpf_map_update_elem(&conntrack, tuple, &request, BPF_ANY))
		return -DROP_CT_FULL;
	return 0;
}
