/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "affinity.h"
#include "maps.h"

/* The results of svc_select besides a backend. */
enum svc_result {
	SVC_NONE = 0, /* not a service */
	SVC_FOUND = 1,
	SVC_EMPTY = -1, /* a service without endpoints */
	SVC_SILENT = -2, /* one whose endpoints are elsewhere */
	SVC_DENIED = -3, /* the client may not use it */
};

static __always_inline int svc_empty(const struct frontend *frontend)
{
	return frontend->flags & FRONTEND_SILENT ? SVC_SILENT : SVC_EMPTY;
}

/* Tells whether a client on the wire may use a frontend. */
static __always_inline bool svc_allows(const struct frontend_key *key, const struct frontend *frontend,
				       const struct addr *client)
{
	struct source who = {
		.prefixlen = 8 * (sizeof(who.set) + sizeof(who.addr)),
		.set = frontend->sources << 1 | !addr_is_v4(client),
		.addr = *client,
	};

	return !frontend->sources || key->scope != SCOPE_EXTERNAL || bpf_map_lookup_elem(&sources, &who);
}

static __always_inline const struct backend *svc_backend(__u32 slot)
{
	const __u32 *id = bpf_map_lookup_elem(&slots, &slot);

	return id ? bpf_map_lookup_elem(&backends, id) : NULL;
}

/* Tells whether an address is one that only Services have. */
static __always_inline bool svc_has(const struct addr *addr, __u8 scope)
{
	struct frontend_key rest = { .addr = *addr, .scope = scope };

	return bpf_map_lookup_elem(&frontends, &rest);
}

/* The frontend of a key. A cluster address has an entry for all of its ports
 * that are none of the Service's, so that these are refused, not routed.
 */
static __always_inline const struct frontend *svc_frontend(const struct frontend_key *key)
{
	const struct frontend *found = bpf_map_lookup_elem(&frontends, key);
	struct frontend_key rest = { .addr = key->addr, .scope = key->scope };

	if (found || key->scope != SCOPE_CLUSTER)
		return found;
	return bpf_map_lookup_elem(&frontends, &rest);
}

/* Chooses a backend of the frontend at random. The range is read once, so an
 * update in between cannot mix two ranges; slots of the old one stay valid for
 * a grace period.
 */
static __always_inline int svc_select(const struct frontend_key *key, struct backend *out)
{
	const struct frontend *found = svc_frontend(key);
	const struct backend *backend;

	if (!found)
		return SVC_NONE;
	if (found->count == 0)
		return svc_empty(found);
	backend = svc_backend(found->first + bpf_get_prandom_u32() % found->count);
	if (!backend)
		return SVC_EMPTY;
	*out = *backend;
	return SVC_FOUND;
}

/* As svc_select, but a client that the frontend knows gets the backend that it
 * had last, where the Service says so.
 */
static __always_inline int svc_select_for(const struct frontend_key *key, const struct addr *client,
					  struct backend *out)
{
	const struct frontend *found = svc_frontend(key);
	struct affinity_key who;
	int result;

	if (found && !svc_allows(key, found, client))
		return SVC_DENIED;
	if (!found || !found->affinity)
		return svc_select(key, out);
	struct frontend frontend = *found;

	who.frontend = *key;
	who.client = *client;
	if (frontend.count && affinity_find(&who, &frontend, out))
		return SVC_FOUND;
	result = svc_select(key, out);
	if (result == SVC_FOUND)
		affinity_set(&who, out);
	return result;
}
