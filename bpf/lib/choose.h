/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "packet.h"
#include "svc.h"

/* Chooses a backend for the first packet of a connection. What a client had before
 * comes first, anything else after. The verifier looks at it by itself.
 */
__noinline int choose(const struct packet *p, __u8 scope, int try, struct backend *out)
{
	struct frontend_key key = { .scope = scope };

	if (!p || !out)
		return SVC_NONE;
	key.addr = p->tuple.dst;
	key.port = p->tuple.dport;
	key.proto = p->tuple.proto;
	return try ? svc_select(&key, out) : svc_select_for(&key, &p->tuple.src, p->tuple.sport, out);
}
