/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <stddef.h>

#include "affinity.h"
#include "hash.h"
#include "table.h"

/* Other backends that are tried when a reply could not be told apart from one
 * of another connection.
 */
#define SVC_TRIES 4

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

/* Tells whether an address is in a range of a set. */
static __always_inline bool svc_in_set(__u32 set, const struct addr *addr)
{
	struct source who = {
		.prefixlen = 8 * (sizeof(who.set) + sizeof(who.addr)),
		.set = set << 1 | !addr_is_v4(addr),
		.addr = *addr,
	};

	return bpf_map_lookup_elem(&sources, &who);
}

/* Tells whether a client may use a frontend. */
static __always_inline bool svc_allows(const struct frontend *frontend, const struct addr *client)
{
	return !frontend->sources || svc_in_set(frontend->sources, client);
}

/* Tells whether an address is one that only Services have. */
static __always_inline bool svc_has(const struct addr *addr, __u8 scope)
{
	struct frontend_key rest = { .addr = *addr, .scope = scope };

	return table_frontend(&rest);
}

/* The frontend of a key. A cluster address has an entry for all of its ports
 * that are none of the Service's, so that these are refused, not routed.
 */
static __always_inline const struct frontend *svc_frontend(const struct frontend_key *key)
{
	const struct frontend *found = table_frontend(key);
	struct frontend_key rest = { .addr = key->addr, .scope = key->scope };

	if (found || key->scope != SCOPE_CLUSTER)
		return found;
	return table_frontend(&rest);
}

/* The range of a frontend in one load. The entry may be replaced at any time, and
 * its memory then be that of another one's.
 */
union svc_range {
	__u64 both;
	struct {
		__u32 first;
		__u32 count;
	};
};
_Static_assert(offsetof(struct frontend, first) == 0 && offsetof(struct frontend, count) == 4, "svc_range");

/* The backend in one of the slots of a frontend. An update in between cannot mix two
 * ranges; slots of the old one stay valid for a grace period.
 */
static __always_inline int svc_nth(const struct frontend *frontend, __u32 n, struct backend *out)
{
	const union svc_range range = { .both = *(const volatile __u64 *)frontend };
	const struct backend *backend;

	if (range.count == 0)
		return svc_empty(frontend);
	backend = table_backend(range.first + n % range.count);
	if (!backend)
		return SVC_EMPTY;
	*out = *backend;
	return SVC_FOUND;
}

/* Chooses a backend of the frontend at random. */
static __always_inline int svc_select(const struct frontend_key *key, struct backend *out)
{
	const struct frontend *found = svc_frontend(key);

	return found ? svc_nth(found, bpf_get_prandom_u32(), out) : SVC_NONE;
}

/* Chooses a backend at random, but with a Maglev table by who the client is. Where
 * clients keep their backend, all of their ports are one: port is 0.
 */
static __always_inline int svc_balance(const struct frontend_key *key, const struct frontend *frontend,
				       const struct addr *client, __be16 port, struct backend *out)
{
	if (!(frontend->flags & FRONTEND_MAGLEV))
		return svc_nth(frontend, bpf_get_prandom_u32(), out);
	return svc_nth(frontend, hash_client(key, client, port), out);
}

/* As svc_balance, but a client that the Service knows gets the backend that it had
 * last. The frontend is copied, for it may be another one by the time of the second
 * look.
 */
static __noinline int svc_keep(const struct frontend_key *key, const struct frontend *found, const struct addr *client,
			       struct backend *out)
{
	const struct frontend frontend = *found;
	const struct affinity_key who = { .service = frontend.service, .client = *client };
	int result;

	if (frontend.count && affinity_find(&who, &frontend, out))
		return SVC_FOUND;
	result = svc_balance(key, &frontend, client, 0, out);
	if (result == SVC_FOUND)
		affinity_set(&who, out);
	return result;
}

/* As svc_balance, for a client that the frontend must let in, and that keeps its
 * backend where the Service says so.
 */
static __always_inline int svc_pick_for(const struct frontend_key *key, const struct frontend *found,
					const struct addr *client, __be16 port, struct backend *out)
{
	if (!svc_allows(found, client))
		return SVC_DENIED;
	return found->affinity ? svc_keep(key, found, client, out) : svc_balance(key, found, client, port, out);
}

static __always_inline int svc_select_for(const struct frontend_key *key, const struct addr *client, __be16 port,
					  struct backend *out)
{
	const struct frontend *found = svc_frontend(key);

	return found ? svc_pick_for(key, found, client, port, out) : SVC_NONE;
}
