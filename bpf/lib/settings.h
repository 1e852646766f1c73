/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "maps.h"

/* The bits of enum takeover that are set. */
static __always_inline __u32 takeover_now(void)
{
	__u32 key = 0;
	const struct settings *now = bpf_map_lookup_elem(&settings, &key);

	return now ? now->takeover : 0;
}
