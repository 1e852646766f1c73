/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "addr.h"

/* Extension headers are followed this far; RFC 8200 allows each but one once. */
#define IPV6_MAX_EXTENSIONS 6

#define IPV4_OFFSET_MASK 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV6_OFFSET_MASK 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

/* Where the flags of TCP are in its header, and some of them. */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* A parsed packet. Fragments that are not the first have no ports of their own;
 * fragment_follow finds them.
 */
struct packet {
	struct tuple tuple;
	__u32 l4;
	__u32 end; /* after it there may be padding */
	__u32 id; /* which datagram a fragment is of */
	bool v6;
	bool ports;
	__u8 tcp_flags; /* none of other protocols */
	bool fragment; /* one of several */
	bool later; /* one that is not the first */
	__u16 fits; /* the size that the way on takes, when the packet is too large */
};

#define SCTP_HEADER 12

struct ext_header {
	__u8 next;
	__u8 len;
	__be16 fragment;
	__u32 id;
};

/* Tells whether a packet may be the first of a connection, as far as that can be
 * seen from it.
 */
static __always_inline bool packet_opens(const struct packet *p)
{
	return p->tuple.proto != IPPROTO_TCP || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The length of the header of a protocol that has ports, which are its first two
 * fields; 0 for others.
 */
static __always_inline __u32 packet_l4_header(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return sizeof(struct tcphdr);
	case IPPROTO_UDP:
		return sizeof(struct udphdr);
	case IPPROTO_SCTP:
		return SCTP_HEADER;
	}
	return 0;
}

static __always_inline void packet_ports(struct __sk_buff *skb, struct packet *p)
{
	__u32 header = packet_l4_header(p->tuple.proto);
	struct {
		__be16 ports[2];
		__be32 seq[2];
		__u8 offset, flags;
	} head;

	if (!header || p->later || p->l4 + header > p->end)
		return;
	if (p->tuple.proto == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->l4, &head, TCP_FLAGS + 1))
			return;
		p->tcp_flags = head.flags;
	} else if (bpf_skb_load_bytes(skb, p->l4, &head, sizeof(head.ports))) {
		return;
	}
	p->tuple.sport = head.ports[0];
	p->tuple.dport = head.ports[1];
	p->ports = true;
}

/* Sets where a packet ends. The length 0 is that of a packet that is longer than
 * the header can say.
 */
static __always_inline int packet_end(const struct __sk_buff *skb, struct packet *p, __u32 least, __u32 length)
{
	p->end = length ? ETH_HLEN + length : skb->len;
	return p->end < ETH_HLEN + least || p->end > skb->len ? -DROP_INVALID : 0;
}

/* Reads the header of IPv4 at an offset. Returns the length of the packet as it
 * says, or a negative drop reason.
 */
static __always_inline int packet_ip4(struct __sk_buff *skb, struct packet *p, __u32 at)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -DROP_INVALID;
	p->tuple.src = addr_v4(ip.saddr);
	p->tuple.dst = addr_v4(ip.daddr);
	p->tuple.proto = ip.protocol;
	p->l4 = at + ip.ihl * 4;
	p->id = ip.id;
	p->fragment = ip.frag_off & bpf_htons(IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS);
	p->later = ip.frag_off & bpf_htons(IPV4_OFFSET_MASK);
	return bpf_ntohs(ip.tot_len);
}

static __always_inline int packet_parse4(struct __sk_buff *skb, struct packet *p)
{
	int length = packet_ip4(skb, p, ETH_HLEN);

	if (length < 0 || packet_end(skb, p, p->l4 - ETH_HLEN, length))
		return -DROP_INVALID;
	packet_ports(skb, p);
	return 0;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

static __always_inline void packet_fragment6(struct packet *p, const struct ext_header *ext)
{
	p->id = ext->id;
	p->fragment = ext->fragment & bpf_htons(IPV6_OFFSET_MASK | IPV6_MORE_FRAGMENTS);
	p->later = ext->fragment & bpf_htons(IPV6_OFFSET_MASK);
}

/* Follows extension headers from an offset on. What is after the header of a later
 * fragment is in the middle of something.
 */
static __always_inline int packet_extensions(struct __sk_buff *skb, struct packet *p, __u8 next, __u32 offset)
{
	for (int i = 0; i < IPV6_MAX_EXTENSIONS && is_extension(next) && !p->later; i++) {
		struct ext_header ext;

		if (bpf_skb_load_bytes(skb, offset, &ext, sizeof(ext)))
			return -DROP_INVALID;
		if (next == IPPROTO_FRAGMENT) {
			packet_fragment6(p, &ext);
			ext.len = 0;
		}
		next = ext.next;
		offset += (ext.len + 1) * 8;
	}
	p->tuple.proto = next;
	p->l4 = offset;
	return 0;
}

/* As packet_ip4, for IPv6. */
static __always_inline int packet_ip6(struct __sk_buff *skb, struct packet *p, __u32 at)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return -DROP_INVALID;
	__builtin_memcpy(&p->tuple.src, &ip.saddr, sizeof(struct addr));
	__builtin_memcpy(&p->tuple.dst, &ip.daddr, sizeof(struct addr));
	/* On the wire these are nobody's; in the tables they are IPv4. */
	if (addr_is_v4(&p->tuple.src) || addr_is_v4(&p->tuple.dst))
		return -DROP_INVALID;
	p->v6 = true;
	if (packet_extensions(skb, p, ip.nexthdr, at + sizeof(ip)))
		return -DROP_INVALID;
	return ip.payload_len ? sizeof(ip) + bpf_ntohs(ip.payload_len) : 0;
}

static __always_inline int packet_parse6(struct __sk_buff *skb, struct packet *p)
{
	int length = packet_ip6(skb, p, ETH_HLEN);

	if (length < 0 || packet_end(skb, p, sizeof(struct ipv6hdr), length))
		return -DROP_INVALID;
	packet_ports(skb, p);
	return 0;
}

/* Fills in p. Returns 0, or 1 for what is no IP packet, or a drop reason. */
static __always_inline int packet_parse(struct __sk_buff *skb, struct packet *p)
{
	__builtin_memset(p, 0, sizeof(*p));
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return packet_parse4(skb, p);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return packet_parse6(skb, p);
	return 1;
}
