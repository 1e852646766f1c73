/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "maps.h"

/* Looks an entry up in a table that grows. The table may be replaced meanwhile:
 * this one stays until the program is done, with all that it had.
 */
static __always_inline void *table_find(void *outer, const void *key)
{
	const __u32 only = 0;
	void *table = bpf_map_lookup_elem(outer, &only);

	return table ? bpf_map_lookup_elem(table, key) : NULL;
}

static __always_inline const struct frontend *table_frontend(const struct frontend_key *key)
{
	return table_find(&frontends, key);
}

/* The backend that a slot leads to. */
static __always_inline const struct backend *table_backend(__u32 slot)
{
	const __u32 *id = table_find(&slots, &slot);

	return id ? table_find(&backends, id) : NULL;
}
