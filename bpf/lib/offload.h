/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "config.h"
#include "types.h"
#include <bpf/bpf_core_read.h>

#define CHECKSUM_PARTIAL 3

struct sk_buff {
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym __weak;

/* Tells whether the checksum of the packet is yet to be completed, from where it
 * began to where it ends, by the device or by who receives it. The context of these
 * programs is the kernel's sk_buff itself; where the verifier does not know that, a
 * read that may fail does.
 */
static __always_inline bool is_partial(struct __sk_buff *skb)
{
	const struct sk_buff *kernel;

	if (!has_kern_ctx) {
		kernel = (const void *)skb;
		return BPF_CORE_READ_BITFIELD_PROBED(kernel, ip_summed) == CHECKSUM_PARTIAL;
	}
	kernel = bpf_cast_to_kern_ctx(skb);
	return BPF_CORE_READ_BITFIELD(kernel, ip_summed) == CHECKSUM_PARTIAL;
}
