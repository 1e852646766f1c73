/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

#include "maps.h"
#include "packet.h"

/* Which end of a packet is rewritten. */
enum nat_end {
	NAT_SRC,
	NAT_DST,
};

static __always_inline __u32 nat_l4_check(const struct packet *p)
{
	if (p->tuple.proto == IPPROTO_TCP)
		return p->l4 + offsetof(struct tcphdr, check);
	return p->l4 + offsetof(struct udphdr, check);
}

/* A UDP packet over IPv4 may have no checksum; that stays so. */
static __always_inline __u64 nat_l4_flags(const struct packet *p)
{
	return p->tuple.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline int nat_addr4(struct __sk_buff *skb, const struct packet *p, enum nat_end end, __be32 from,
				     __be32 to)
{
	__u32 at = ETH_HLEN + (end == NAT_SRC ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));

	if (bpf_l4_csum_replace(skb, nat_l4_check(p), from, to, BPF_F_PSEUDO_HDR | nat_l4_flags(p) | sizeof(to)))
		return -DROP_REWRITE;
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), from, to, sizeof(to)))
		return -DROP_REWRITE;
	if (bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0))
		return -DROP_REWRITE;
	return 0;
}

static __always_inline int nat_addr6(struct __sk_buff *skb, const struct packet *p, enum nat_end end, struct addr *from,
				     struct addr *to)
{
	__u32 at = ETH_HLEN + (end == NAT_SRC ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
	__s64 diff = bpf_csum_diff(from->w, sizeof(from->w), to->w, sizeof(to->w), 0);

	if (diff < 0)
		return -DROP_REWRITE;
	if (bpf_l4_csum_replace(skb, nat_l4_check(p), 0, diff, BPF_F_PSEUDO_HDR | nat_l4_flags(p)))
		return -DROP_REWRITE;
	if (bpf_skb_store_bytes(skb, at, to, sizeof(*to), 0))
		return -DROP_REWRITE;
	return 0;
}

/* Rewrites address and port of one end, with all checksums. */
static __always_inline int nat_rewrite(struct __sk_buff *skb, const struct packet *p, enum nat_end end,
				       const struct addr *addr, __be16 port)
{
	struct addr from = end == NAT_SRC ? p->tuple.src : p->tuple.dst;
	struct addr to = *addr;
	__be16 old = end == NAT_SRC ? p->tuple.sport : p->tuple.dport;
	int err;

	err = p->v6 ? nat_addr6(skb, p, end, &from, &to) : nat_addr4(skb, p, end, from.w[3], to.w[3]);
	if (err)
		return err;
	if (bpf_l4_csum_replace(skb, nat_l4_check(p), old, port, nat_l4_flags(p) | sizeof(port)))
		return -DROP_REWRITE;
	/* Source and destination port are the first two fields of both. */
	if (bpf_skb_store_bytes(skb, p->l4 + (end == NAT_SRC ? 0 : 2), &port, sizeof(port), 0))
		return -DROP_REWRITE;
	return 0;
}
