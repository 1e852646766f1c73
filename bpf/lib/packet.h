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

/* Where the flags of TCP are in its header, and some of them. */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* A parsed packet. Only TCP and UDP in one piece have ports. */
struct packet {
	struct tuple tuple;
	__u32 l4;
	__u32 end; /* after it there may be padding */
	bool v6;
	bool ports;
	__u8 tcp_flags; /* none of other protocols */
	bool fragment; /* one of several */
};

struct ext_header {
	__u8 next;
	__u8 len;
	__be16 fragment;
	__u32 rest;
};

static __always_inline void packet_ports(struct __sk_buff *skb, struct packet *p)
{
	__u32 header = p->tuple.proto == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
	__be16 ports[2];

	if (p->tuple.proto != IPPROTO_TCP && p->tuple.proto != IPPROTO_UDP)
		return;
	if (p->l4 + header > p->end || bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)))
		return;
	p->tuple.sport = ports[0];
	p->tuple.dport = ports[1];
	p->ports = true;
	if (p->tuple.proto == IPPROTO_TCP)
		bpf_skb_load_bytes(skb, p->l4 + TCP_FLAGS, &p->tcp_flags, sizeof(p->tcp_flags));
}

/* Sets where a packet ends. The length 0 is that of a packet that is longer than
 * the header can say.
 */
static __always_inline int packet_end(const struct __sk_buff *skb, struct packet *p, __u32 least, __u32 length)
{
	p->end = length ? ETH_HLEN + length : skb->len;
	return p->end < ETH_HLEN + least || p->end > skb->len ? -DROP_INVALID : 0;
}

static __always_inline int packet_parse4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -DROP_INVALID;
	p->tuple.src = addr_v4(ip.saddr);
	p->tuple.dst = addr_v4(ip.daddr);
	p->tuple.proto = ip.protocol;
	p->l4 = ETH_HLEN + ip.ihl * 4;
	if (packet_end(skb, p, ip.ihl * 4, bpf_ntohs(ip.tot_len)))
		return -DROP_INVALID;
	p->fragment = ip.frag_off & bpf_htons(IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS);
	if (!p->fragment)
		packet_ports(skb, p);
	return 0;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS;
}

static __always_inline int packet_parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	__u32 offset = ETH_HLEN + sizeof(ip);
	__u8 next;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 6)
		return -DROP_INVALID;
	__builtin_memcpy(&p->tuple.src, &ip.saddr, sizeof(struct addr));
	__builtin_memcpy(&p->tuple.dst, &ip.daddr, sizeof(struct addr));
	/* On the wire these are nobody's; in the tables they are IPv4. */
	if (addr_is_v4(&p->tuple.src) || addr_is_v4(&p->tuple.dst))
		return -DROP_INVALID;
	if (packet_end(skb, p, sizeof(ip), ip.payload_len ? sizeof(ip) + bpf_ntohs(ip.payload_len) : 0))
		return -DROP_INVALID;
	p->v6 = true;
	next = ip.nexthdr;
	for (int i = 0; i < IPV6_MAX_EXTENSIONS; i++) {
		struct ext_header ext;

		if (!is_extension(next))
			break;
		if (bpf_skb_load_bytes(skb, offset, &ext, sizeof(ext)))
			return -DROP_INVALID;
		next = ext.next;
		offset += (ext.len + 1) * 8;
	}
	/* A fragment keeps IPPROTO_FRAGMENT as its protocol: it has no ports. */
	p->tuple.proto = next;
	p->l4 = offset;
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
