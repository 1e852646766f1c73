/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "ct.h"
#include "packet.h"
#include "svc.h"

/* For how long later fragments may come after the first: as long as the kernel
 * waits for them.
 */
#define FRAGMENT_LIFE (30 * SECOND)

static __always_inline struct fragment_key fragment_key(const struct packet *p)
{
	struct fragment_key key = {
		.src = p->tuple.src,
		.dst = p->tuple.dst,
		.id = p->id,
		.proto = p->v6 ? 0 : p->tuple.proto,
	};

	return key;
}

/* Remembers the ports of a first fragment that is about to be rewritten. */
static __always_inline void fragment_remember(const struct packet *p)
{
	struct fragment_key key = fragment_key(p);
	struct fragment first = {
		.sport = p->tuple.sport,
		.dport = p->tuple.dport,
		.proto = p->tuple.proto,
		.seen = bpf_ktime_get_ns(),
	};

	bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
}

/* Gives a later fragment the ports of the first. Tells whether it is lost: it is
 * for an address that only Services have, and the first did not come before. Where
 * the address is the node's as well, such fragments may be the host's own. The
 * verifier looks at it by itself.
 */
__noinline int fragment_lost(struct packet *p, __u8 scope)
{
	struct fragment_key key;
	const struct fragment *first;

	if (!p)
		return true;
	key = fragment_key(p);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first || bpf_ktime_get_ns() - first->seen > FRAGMENT_LIFE)
		return svc_has(&p->tuple.dst, scope);
	p->tuple.sport = first->sport;
	p->tuple.dport = first->dport;
	p->tuple.proto = first->proto;
	p->ports = true;
	return false;
}
