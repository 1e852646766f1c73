/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "addr.h"
#include "config.h"
#include "table.h"

#define AFFINITY_SECOND 1000000000ULL

/* How many slots are looked through for a backend. */
#define AFFINITY_SEARCH 4096

/* The same where the verifier follows the loop itself. */
#define AFFINITY_SEARCH_UNROLLED 512

struct affinity_search {
	struct addr addr;
	__u32 first;
	__be16 port;
	__u16 flags;
	bool found;
};

static long affinity_compare(__u32 i, void *data)
{
	struct affinity_search *search = data;
	const struct backend *backend = table_backend(search->first + i);

	if (!backend || backend->port != search->port || !addr_equal(&backend->addr, &search->addr))
		return 0;
	search->flags = backend->flags;
	search->found = true;
	return 1;
}

/* Looks for a backend among some slots. */
static __always_inline bool affinity_has(struct affinity_search *search, __u32 count)
{
	if (!has_loop) {
		for (__u32 i = 0; i < AFFINITY_SEARCH_UNROLLED; i++) {
			if (i >= count || affinity_compare(i, search))
				break;
		}
		return search->found;
	}
	bpf_loop(count < AFFINITY_SEARCH ? count : AFFINITY_SEARCH, affinity_compare, search, 0);
	return search->found;
}

/* Finds the backend that the client had last, by whichever frontend of the Service,
 * when that was not too long ago and this frontend has it, too. Each use starts the
 * time anew.
 */
static __always_inline bool affinity_find(const struct affinity_key *who, const struct frontend *frontend,
					  struct backend *out)
{
	struct affinity *last = bpf_map_lookup_elem(&affinities, who);
	__u64 now = bpf_ktime_get_ns();

	if (!last || now - last->seen > frontend->affinity * AFFINITY_SECOND)
		return false;
	struct affinity_search search = { .addr = last->addr, .first = frontend->first, .port = last->port };

	if (!affinity_has(&search, frontend->count))
		return false;
	/* Two CPUs may set the time at once: both mean now. */
	last->seen = now;
	__builtin_memset(out, 0, sizeof(*out));
	out->addr = search.addr;
	out->port = search.port;
	out->flags = search.flags;
	return true;
}

static __always_inline void affinity_set(const struct affinity_key *who, const struct backend *backend)
{
	struct affinity now = {
		.addr = backend->addr,
		.port = backend->port,
		.seen = bpf_ktime_get_ns(),
	};

	bpf_map_update_elem(&affinities, who, &now, BPF_ANY);
}
