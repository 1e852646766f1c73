/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "addr.h"
#include "maps.h"

#define SECOND 1000000000ULL

/* An entry that was not used for this long may be replaced by another
 * connection with the same tuple.
 */
#define CT_STALE (120 * SECOND)

/* Finds what to do with a packet of this tuple. Several CPUs may set the time
 * at once; all set the same, give or take a moment.
 */
static __always_inline struct ct *ct_find(const struct tuple *tuple)
{
	struct ct *found = bpf_map_lookup_elem(&conntrack, tuple);
	__u64 now = bpf_ktime_get_ns();

	if (found && now - found->seen > SECOND)
		found->seen = now;
	return found;
}

/* Enters both ways of a connection to a service: requests go to the backend,
 * replies come from the service address. Fills in what to do with requests. Returns
 * 0, or a negative number when the way back belongs to another connection. The
 * verifier looks at it by itself.
 */
__noinline int ct_create(const struct tuple *tuple, const struct backend *backend, __u32 ifindex, struct ct *request)
{
	struct tuple back = {};
	struct ct reply = { .action = CT_SNAT, .ifindex = ifindex };
	const struct ct *other;

	if (!tuple || !backend || !request)
		return -DROP_REWRITE;
	back.src = backend->addr;
	back.dst = tuple->src;
	back.sport = backend->port;
	back.dport = tuple->sport;
	back.proto = tuple->proto;
	reply.addr = tuple->dst;
	reply.port = tuple->dport;
	reply.seen = bpf_ktime_get_ns();
	other = bpf_map_lookup_elem(&conntrack, &back);
	*request = (struct ct){
		.addr = backend->addr,
		.port = backend->port,
		.action = CT_DNAT,
		.ifindex = ifindex,
		.seen = reply.seen,
	};
	if (other && reply.seen - other->seen < CT_STALE &&
	    (other->port != tuple->dport || !addr_equal(&other->addr, &tuple->dst)))
		return -DROP_CT_FULL;
	if (bpf_map_update_elem(&conntrack, &back, &reply, BPF_ANY))
		return -DROP_CT_FULL;
	if (bpf_map_update_elem(&conntrack, tuple, request, BPF_ANY))
		return -DROP_CT_FULL;
	return 0;
}
