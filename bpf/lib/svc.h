/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "maps.h"

/* The results of svc_select besides a backend. */
enum svc_result {
	SVC_NONE = 0, /* not a service */
	SVC_FOUND = 1,
	SVC_EMPTY = -1, /* a service without endpoints */
};

/* Chooses a backend of the frontend at random. The range is read once, so an
 * update in between cannot mix two ranges; slots of the old one stay valid for
 * a grace period.
 */
static __always_inline int svc_select(const struct frontend_key *key, struct backend *out)
{
	const struct frontend *found = bpf_map_lookup_elem(&frontends, key);
	const struct backend *backend;
	const __u32 *id;
	__u32 slot;

	if (!found)
		return SVC_NONE;
	if (found->count == 0)
		return SVC_EMPTY;
	slot = found->first + bpf_get_prandom_u32() % found->count;
	id = bpf_map_lookup_elem(&slots, &slot);
	if (!id)
		return SVC_EMPTY;
	backend = bpf_map_lookup_elem(&backends, id);
	if (!backend)
		return SVC_EMPTY;
	*out = *backend;
	return SVC_FOUND;
}
