/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "offload.h"
#include "packet.h"

/* Where SCTP has its checksum, the CRC32c of the whole packet; RFC 9260, 6.8. */
#define SCTP_CHECK 8

/* A CRC is the remainder of a polynomial over GF(2), here with the highest bit for
 * x^0, as CRC32c has it. It is linear: it changes by the CRC of what has changed.
 */
#define CRC32C 0x82f63b78

/* x^(8 * 2^k) modulo the polynomial: what 2^k more bytes do. */
static const __u32 sctp_powers[16] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
	0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a, 0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

/* The product of two remainders. */
static __always_inline __u32 sctp_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C & -(b & 1));
	}
	return product;
}

/* How the CRC of a packet changes with its first four bytes. They are followed by
 * length - 4 others, and 32 bits of zeros. The verifier looks at it by itself.
 */
__noinline __u32 sctp_delta(__u32 changed, __u32 length)
{
	for (__u32 k = 0; k < 16; k++) {
		if (length >> k & 1)
			changed = sctp_multiply(changed, sctp_powers[k]);
	}
	return changed;
}

/* Writes a port, which is at an offset of the header, with the checksum, unless the
 * device completes that. Of a fragmented packet it cannot be told: it depends on how
 * long the whole is.
 */
static __always_inline int sctp_port(struct __sk_buff *skb, const struct packet *p, __u32 at, __be16 from, __be16 to)
{
	__u32 check, changed = (__u32)(from ^ to) << (8 * at);

	if (from == to)
		return 0;
	if (p->fragment)
		return -DROP_FRAGMENT;
	if (bpf_skb_store_bytes(skb, p->l4 + at, &to, sizeof(to), BPF_F_RECOMPUTE_CSUM))
		return -DROP_REWRITE;
	if (is_partial(skb))
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + SCTP_CHECK, &check, sizeof(check)))
		return -DROP_REWRITE;
	check ^= sctp_delta(changed, p->end - p->l4);
	return bpf_skb_store_bytes(skb, p->l4 + SCTP_CHECK, &check, sizeof(check), BPF_F_RECOMPUTE_CSUM) ? -DROP_REWRITE
													 : 0;
}
