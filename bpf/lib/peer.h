/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <stddef.h>

#include "addr.h"
#include "maps.h"

/* Cookies are given out one after the other: sockets that live at the same time
 * mostly have slots of their own. No lock is taken and no memory allocated.
 */
static __always_inline struct peer *peer_slot(__u64 cookie)
{
	__u32 slot = cookie % PEERS;

	return bpf_map_lookup_elem(&peers, &slot);
}

/* What a socket means by a backend, if it is in its slot. */
static __always_inline struct peer *peer_find(__u64 cookie, const struct addr *backend, __be16 port)
{
	struct peer *peer = peer_slot(cookie);

	if (!peer || peer->cookie != cookie || peer->backend_port != port || !addr_equal(&peer->backend, backend))
		return NULL;
	return peer;
}

/* By which service a socket came to a backend, if it did by one. */
static __always_inline bool peer_use(__u64 cookie, const struct addr *backend, __be16 port, struct use *out)
{
	const struct peer *peer = peer_find(cookie, backend, port);

	out->backend = *backend;
	out->backend_port = port;
	if (peer) {
		out->service = peer->service;
		out->service_port = peer->service_port;
		out->proto = peer->proto;
		return true;
	}
	struct reverse_key key = { .cookie = cookie, .addr = *backend, .port = port };
	const struct reverse *service = bpf_map_lookup_elem(&reverses, &key);

	if (!service)
		return false;
	out->service = service->addr;
	out->service_port = service->port;
	out->proto = service->proto;
	return true;
}

/* Notes that a socket whose slot this is may be in reverses. */
static __always_inline void peer_share(__u64 cookie)
{
	struct peer *peer = peer_slot(cookie);

	if (peer)
		peer->shared = true;
}

/* Gives the slot to a socket. Only its own thread writes to it from then on. */
static __always_inline struct peer *peer_claim(__u64 cookie)
{
	struct peer *peer = peer_slot(cookie);

	if (!peer)
		return NULL;
	if (peer->cookie == cookie || !__sync_val_compare_and_swap(&peer->cookie, 0, cookie))
		return peer;
	peer->shared = true;
	return NULL;
}

/* Frees the slot of a socket. Tells whether it may be in reverses. */
static __always_inline bool peer_release(__u64 cookie)
{
	struct peer *peer = peer_slot(cookie);

	if (!peer)
		return true;
	if (peer->cookie == cookie)
		*(volatile __u64 *)&peer->cookie = 0;
	return peer->shared;
}
