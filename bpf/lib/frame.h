/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <stddef.h>

#include "packet.h"

/* Packets as XDP has them: bytes in memory. Only the plain kind is handled: TCP
 * and UDP in one piece, without IP options and extension headers, as a whole in
 * the first buffer. All else is for tcx.
 */

static __always_inline __u16 frame_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u64 frame_sum(const struct addr *a)
{
	return (__u64)a->w[0] + a->w[1] + a->w[2] + a->w[3];
}

/* Reads the ports. A checksum that is only the sum of the pseudo header is one
 * that a device was to complete, as it is between the ends of a veth pair. tcx can
 * rewrite such a packet, here nobody would complete it.
 */
static __always_inline bool frame_ports(struct packet *p, const void *l4, const void *end, __u64 pseudo)
{
	const struct tcphdr *tcp = l4;
	const struct udphdr *udp = l4;
	__u32 length = p->end - p->l4;
	__sum16 check;

	if (p->tuple.proto == IPPROTO_TCP) {
		if ((const void *)(tcp + 1) > end || length < sizeof(*tcp))
			return false;
		check = tcp->check;
		p->tcp_flags = ((const __u8 *)tcp)[TCP_FLAGS];
	} else if (p->tuple.proto == IPPROTO_UDP) {
		if ((const void *)(udp + 1) > end || length < sizeof(*udp))
			return false;
		check = udp->check;
	} else {
		return false;
	}
	p->tuple.sport = udp->source;
	p->tuple.dport = udp->dest;
	p->ports = true;
	return check != frame_fold(pseudo + bpf_htons(length) + bpf_htons(p->tuple.proto));
}

static __always_inline bool frame_parse4(struct packet *p, const void *data, const void *end)
{
	const struct iphdr *ip = data + ETH_HLEN;

	if ((const void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->ttl <= 1 ||
	    ip->frag_off & bpf_htons(IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS))
		return false;
	p->tuple.src = addr_v4(ip->saddr);
	p->tuple.dst = addr_v4(ip->daddr);
	p->tuple.proto = ip->protocol;
	p->l4 = ETH_HLEN + sizeof(*ip);
	p->end = ETH_HLEN + bpf_ntohs(ip->tot_len);
	if (p->end < p->l4 || p->end > end - data)
		return false;
	return frame_ports(p, ip + 1, end, (__u64)ip->saddr + ip->daddr);
}

static __always_inline bool frame_parse6(struct packet *p, const void *data, const void *end)
{
	const struct ipv6hdr *ip = data + ETH_HLEN;

	if ((const void *)(ip + 1) > end || ip->version != 6 || ip->hop_limit <= 1 || !ip->payload_len)
		return false;
	__builtin_memcpy(&p->tuple.src, &ip->saddr, sizeof(struct addr));
	__builtin_memcpy(&p->tuple.dst, &ip->daddr, sizeof(struct addr));
	if (addr_is_v4(&p->tuple.src) || addr_is_v4(&p->tuple.dst))
		return false;
	p->v6 = true;
	p->tuple.proto = ip->nexthdr;
	p->l4 = ETH_HLEN + sizeof(*ip);
	p->end = p->l4 + bpf_ntohs(ip->payload_len);
	if (p->end > end - data)
		return false;
	return frame_ports(p, ip + 1, end, frame_sum(&p->tuple.src) + frame_sum(&p->tuple.dst));
}

/* Fills in p, and tells whether the packet is of the plain kind and may be sent
 * on.
 */
static __always_inline bool frame_parse(const struct xdp_md *ctx, struct packet *p)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = data;

	__builtin_memset(p, 0, sizeof(*p));
	if ((const void *)(eth + 1) > end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return frame_parse4(p, data, end);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return frame_parse6(p, data, end);
	return false;
}

/* Adds the change of some bytes to a checksum (RFC 1624); diff is the sum of what
 * they are now and of the complements of what they were.
 */
static __always_inline __sum16 frame_check(__sum16 check, __u64 diff)
{
	return ~frame_fold((__u16)~check + diff);
}

/* The difference that other ends make. */
static __always_inline __u64 frame_diff(const struct packet *p, const struct ct *ct)
{
	__u64 diff = 0;

	for (int i = p->v6 ? 0 : 3; i < 4; i++)
		diff += (__u64)ct->addr.w[i] + ct->from.w[i] + (__u32)~p->tuple.dst.w[i] + (__u32)~p->tuple.src.w[i];
	return diff;
}

static __always_inline bool frame_rewrite_ports(const struct packet *p, const struct ct *ct, void *l4, const void *end,
						__u64 diff)
{
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;

	diff += (__u64)ct->port + ct->from_port + (__u16)~p->tuple.dport + (__u16)~p->tuple.sport;
	if (p->tuple.proto == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return false;
		tcp->check = frame_check(tcp->check, diff);
	} else {
		if ((void *)(udp + 1) > end)
			return false;
		/* Zero means that there is none, so that 0 is written as 0xffff. */
		if (udp->check)
			udp->check = frame_check(udp->check, diff) ?: 0xffff;
	}
	udp->source = ct->from_port;
	udp->dest = ct->port;
	return true;
}

/* Rewrites both ends, the hop limit and the link addresses. */
static __always_inline bool frame_rewrite(const struct xdp_md *ctx, const struct packet *p, const struct ct *ct,
					  const struct bpf_fib_lookup *way)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip4 = data + ETH_HLEN;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	__u64 diff = frame_diff(p, ct);

	if (p->v6) {
		if ((void *)(ip6 + 1) > end || !frame_rewrite_ports(p, ct, ip6 + 1, end, diff))
			return false;
		__builtin_memcpy(&ip6->saddr, &ct->from, sizeof(struct addr));
		__builtin_memcpy(&ip6->daddr, &ct->addr, sizeof(struct addr));
		ip6->hop_limit--;
	} else {
		if ((void *)(ip4 + 1) > end || !frame_rewrite_ports(p, ct, ip4 + 1, end, diff))
			return false;
		ip4->saddr = ct->from.w[3];
		ip4->daddr = ct->addr.w[3];
		ip4->ttl--;
		/* The checksum is over pairs of bytes, of which ttl is a first one. */
		ip4->check = frame_check(ip4->check, diff + (__u16)~bpf_htons(0x0100));
	}
	__builtin_memcpy(eth->h_dest, way->dmac, sizeof(eth->h_dest));
	__builtin_memcpy(eth->h_source, way->smac, sizeof(eth->h_source));
	return true;
}
