/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "maps.h"

/* What a tcx program returns; see linux/bpf.h, enum tcx_action_base. */
#define VERDICT_NEXT -1
#define VERDICT_DROP 2

/* The counter is per CPU, so it needs no atomics. */
static __always_inline void drop_count(enum drop_reason reason)
{
	__u32 key = reason;
	__u64 *count = bpf_map_lookup_elem(&drops, &key);

	if (count)
		(*count)++;
}

/* Counts and drops, at a tcx hook. */
static __always_inline int drop(enum drop_reason reason)
{
	drop_count(reason);
	return VERDICT_DROP;
}
