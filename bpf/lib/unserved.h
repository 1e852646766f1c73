/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "reject.h"
#include "svc.h"

/* Refuses a datagram to a cluster address and port without backends. It comes from
 * a socket that was connected to it, which succeeds. Nobody routes such addresses:
 * it would leave the cluster.
 */
static __always_inline int refuse_unserved(struct __sk_buff *skb, const struct packet *p, __u64 direction)
{
	struct frontend_key key = {
		.addr = p->tuple.dst,
		.port = p->tuple.dport,
		.proto = p->tuple.proto,
		.scope = SCOPE_CLUSTER,
	};
	const struct frontend *found;

	if (!p->ports || p->tuple.proto != IPPROTO_UDP || !svc_has(&p->tuple.dst, SCOPE_CLUSTER))
		return VERDICT_NEXT;
	found = svc_frontend(&key);
	if (found && found->count)
		return VERDICT_NEXT;
	return reject(skb, p, direction);
}
