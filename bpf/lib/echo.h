/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "answer.h"
#include "svc.h"

/* Answers an echo request to an address that Services have. */
static __always_inline int echo(struct __sk_buff *skb, const struct packet *p, __u8 scope, __u64 direction)
{
	int err;

	if (!is_echo_request(skb, p) || !svc_has(&p->tuple.dst, scope))
		return VERDICT_NEXT;
	err = answer_echo(skb, p);
	return err ? drop(-err) : bpf_redirect(skb->ifindex, direction);
}
