/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

#include "fragment.h"
#include "packet.h"
#include "sctp.h"

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

/* Tells whether the packet has a checksum with the addresses in it. That of a
 * first fragment is the whole datagram's.
 */
static __always_inline bool nat_has_check(const struct packet *p)
{
	return !p->later && p->tuple.proto != IPPROTO_SCTP;
}

static __always_inline int nat_addr4(struct __sk_buff *skb, const struct packet *p, enum nat_end end, __be32 from,
				     __be32 to)
{
	__u32 at = ETH_HLEN + (end == NAT_SRC ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
	__u64 flags = BPF_F_PSEUDO_HDR | nat_l4_flags(p) | sizeof(to);

	if (nat_has_check(p) && bpf_l4_csum_replace(skb, nat_l4_check(p), from, to, flags))
		return -DROP_REWRITE;
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), from, to, sizeof(to)))
		return -DROP_REWRITE;
	return bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0) ? -DROP_REWRITE : 0;
}

static __always_inline int nat_addr6(struct __sk_buff *skb, const struct packet *p, enum nat_end end,
				     const struct addr *from, const struct addr *to)
{
	__u32 at = ETH_HLEN + (end == NAT_SRC ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr));
	__s64 diff = bpf_csum_diff((__be32 *)from->w, sizeof(from->w), (__be32 *)to->w, sizeof(to->w), 0);

	/* Without one that makes up for it the sum that the device took changes. */
	if (!nat_has_check(p))
		return bpf_skb_store_bytes(skb, at, to, sizeof(*to), BPF_F_RECOMPUTE_CSUM) ? -DROP_REWRITE : 0;
	if (diff < 0 || bpf_l4_csum_replace(skb, nat_l4_check(p), 0, diff, BPF_F_PSEUDO_HDR | nat_l4_flags(p)))
		return -DROP_REWRITE;
	return bpf_skb_store_bytes(skb, at, to, sizeof(*to), 0) ? -DROP_REWRITE : 0;
}

static __always_inline int nat_port(struct __sk_buff *skb, const struct packet *p, enum nat_end end, __be16 from,
				    __be16 to)
{
	/* Source and destination port are the first two fields. */
	__u32 at = end == NAT_SRC ? 0 : sizeof(to);

	if (p->tuple.proto == IPPROTO_SCTP)
		return sctp_port(skb, p, at, from, to);
	if (bpf_l4_csum_replace(skb, nat_l4_check(p), from, to, nat_l4_flags(p) | sizeof(to)))
		return -DROP_REWRITE;
	return bpf_skb_store_bytes(skb, p->l4 + at, &to, sizeof(to), 0) ? -DROP_REWRITE : 0;
}

/* Rewrites address and port of one end, with all checksums. */
static __always_inline int nat_rewrite(struct __sk_buff *skb, const struct packet *p, enum nat_end end,
				       const struct addr *addr, __be16 port)
{
	const struct addr *from = end == NAT_SRC ? &p->tuple.src : &p->tuple.dst;
	__be16 old = end == NAT_SRC ? p->tuple.sport : p->tuple.dport;
	int err = p->v6 ? nat_addr6(skb, p, end, from, addr) : nat_addr4(skb, p, end, from->w[3], addr->w[3]);

	return err || p->later ? err : nat_port(skb, p, end, old, port);
}

/* Rewrites what an entry says. The verifier looks at it by itself. */
__noinline int nat_apply(struct __sk_buff *skb, const struct packet *p, const struct ct *ct)
{
	int err = 0;

	if (!p || !ct)
		return -DROP_REWRITE;
	if (p->fragment && !p->later)
		fragment_remember(p);
	if (ct->action & CT_DNAT)
		err = nat_rewrite(skb, p, NAT_DST, &ct->addr, ct->port);
	if (err)
		return err;
	if (ct->action == CT_BOTH)
		return nat_rewrite(skb, p, NAT_SRC, &ct->from, ct->from_port);
	return ct->action == CT_SNAT ? nat_rewrite(skb, p, NAT_SRC, &ct->addr, ct->port) : 0;
}
