/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "answer.h"
#include "ct.h"
#include "nat.h"

/* Errors that are about a packet, which they quote; RFC 792, RFC 4443. */
static __always_inline bool error_type(const struct packet *p, __u8 type)
{
	if (p->v6)
		return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER;
	return type == ICMP4_UNREACHABLE || type == ICMP4_TIME || type == ICMP4_PARAMETER;
}

/* Reads the packet that an error is about; false when p is no such error. */
static __always_inline bool error_quote(struct __sk_buff *skb, const struct packet *p, struct packet *quote)
{
	__u8 proto = p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	__u32 at = p->l4 + sizeof(struct icmp);
	__be16 ports[2];
	__u8 type;

	if (p->tuple.proto != proto || p->fragment || bpf_skb_load_bytes(skb, p->l4, &type, sizeof(type)) ||
	    !error_type(p, type))
		return false;
	if ((p->v6 ? packet_ip6(skb, quote, at) : packet_ip4(skb, quote, at)) < 0)
		return false;
	if (quote->later || !packet_l4_header(quote->tuple.proto) || quote->l4 + sizeof(ports) > p->end ||
	    bpf_skb_load_bytes(skb, quote->l4, ports, sizeof(ports)))
		return false;
	quote->tuple.sport = ports[0];
	quote->tuple.dport = ports[1];
	/* An error goes to the sender of what it is about. */
	return addr_equal(&quote->tuple.src, &p->tuple.dst);
}

/* Rewrites an address in the header of IP at an offset, of the error or of what it
 * quotes. With IPv4 the header's checksum makes up for it; the sum of IPv6 has both
 * addresses in it.
 */
static __always_inline int error_addr(struct __sk_buff *skb, const struct packet *p, __u32 at, enum nat_end end,
				      const struct addr *from, const struct addr *to)
{
	__s64 diff;

	if (!p->v6) {
		__u32 where = at + (end == NAT_SRC ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));

		return bpf_l3_csum_replace(skb, at + offsetof(struct iphdr, check), from->w[3], to->w[3],
					   sizeof(to->w[3])) ||
		       bpf_skb_store_bytes(skb, where, &to->w[3], sizeof(to->w[3]), 0);
	}
	at += end == NAT_SRC ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
	diff = bpf_csum_diff((__be32 *)from->w, sizeof(from->w), (__be32 *)to->w, sizeof(to->w), 0);
	return bpf_l4_csum_replace(skb, p->l4 + offsetof(struct icmp, check), 0, diff, 0) ||
	       bpf_skb_store_bytes(skb, at, to, sizeof(*to), 0);
}

/* Rewrites one end of an error, and the other end of what it quotes. The checksum
 * of the quoted transport header stays: nobody can verify it.
 */
static __always_inline int error_end(struct __sk_buff *skb, struct packet *p, const struct packet *quote,
				     enum nat_end end, const struct addr *to, __be16 port)
{
	struct addr *outer = end == NAT_SRC ? &p->tuple.src : &p->tuple.dst;
	const struct addr *inner = end == NAT_SRC ? &quote->tuple.dst : &quote->tuple.src;
	__be16 old = end == NAT_SRC ? quote->tuple.dport : quote->tuple.sport;
	enum nat_end other = end == NAT_SRC ? NAT_DST : NAT_SRC;

	if (error_addr(skb, p, ETH_HLEN, end, outer, to) ||
	    error_addr(skb, p, p->l4 + sizeof(struct icmp), other, inner, to) ||
	    bpf_l4_csum_replace(skb, p->l4 + offsetof(struct icmp, check), old, port, sizeof(port)) ||
	    bpf_skb_store_bytes(skb, quote->l4 + (other == NAT_SRC ? 0 : 2), &port, sizeof(port), 0))
		return -DROP_REWRITE;
	*outer = *to;
	return 0;
}

/* Translates an error about a packet of a known connection, so that the sender of
 * that packet recognizes it. Packets from where the error comes are the other way
 * of the connection: what is done to them is done to it, and undone in the quote.
 * Only entries that rewrite the given part are looked at. Returns 1 and the entry,
 * or 0 for what is none of ours, or a negative drop reason. The verifier looks at it
 * by itself.
 */
__noinline int error_translate(struct __sk_buff *skb, struct packet *p, enum ct_action part, struct ct *ct)
{
	struct packet quote = {};
	struct tuple way = {};
	const struct ct *known;
	int err = 0;

	if (!p || !ct || !error_quote(skb, p, &quote))
		return 0;
	way.src = quote.tuple.dst;
	way.dst = quote.tuple.src;
	way.sport = quote.tuple.dport;
	way.dport = quote.tuple.sport;
	way.proto = quote.tuple.proto;
	known = bpf_map_lookup_elem(&conntrack, &way);
	if (!known || !(known->action & part))
		return 0;
	*ct = *known;
	if (ct->action & CT_DNAT)
		err = error_end(skb, p, &quote, NAT_DST, &ct->addr, ct->port);
	if (!err && ct->action == CT_SNAT)
		err = error_end(skb, p, &quote, NAT_SRC, &ct->addr, ct->port);
	else if (!err && ct->action == CT_BOTH)
		err = error_end(skb, p, &quote, NAT_SRC, &ct->from, ct->from_port);
	return err ? err : 1;
}
