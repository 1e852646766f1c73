/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "drop.h"
#include "packet.h"

/* What is written in answers as time to live. */
#define ANSWER_TTL 64

/* The header of both versions of ICMP; RFC 792, RFC 4443. */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest;
};

enum icmp_type {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_UNREACHABLE = 3,
	ICMP4_ECHO_REQUEST = 8,
	ICMP4_TIME = 11,
	ICMP4_PARAMETER = 12,
	ICMP6_UNREACHABLE = 1,
	ICMP6_TOO_BIG = 2,
	ICMP6_PARAMETER = 4,
	ICMP6_ECHO_REQUEST = 128,
	ICMP6_ECHO_REPLY = 129,
};

enum icmp_code {
	ICMP4_FRAGMENT = 4,
	ICMP4_PORT = 3,
	ICMP6_PORT = 4,
};

static __always_inline __u16 csum_fold(__s64 sum)
{
	__u32 folded = sum;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return ~folded;
}

/* The sum of the pseudo header of an answer to a packet; RFC 9293, 3.1, and RFC
 * 8200, 8.1. Both ends swap places, which does not change it.
 */
static __always_inline __s64 answer_pseudo(const struct packet *p, __u8 proto, __u16 len)
{
	struct {
		struct addr src, dst;
		__be32 len, proto;
	} v6 = { p->tuple.src, p->tuple.dst, bpf_htonl(len), bpf_htonl(proto) };
	struct {
		__be32 src, dst, proto_len;
	} v4 = { p->tuple.src.w[3], p->tuple.dst.w[3], bpf_htonl((__u32)proto << 16 | len) };

	return p->v6 ? bpf_csum_diff(NULL, 0, (__be32 *)&v6, sizeof(v6), 0)
		     : bpf_csum_diff(NULL, 0, (__be32 *)&v4, sizeof(v4), 0);
}

/* Turns the Ethernet header around. */
static __always_inline int answer_ether(struct __sk_buff *skb)
{
	struct mac macs[2], back[2];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -DROP_REWRITE;
	back[0] = macs[1];
	back[1] = macs[0];
	return bpf_skb_store_bytes(skb, 0, back, sizeof(back), 0) ? -DROP_REWRITE : 0;
}

/* Writes the header of an answer with len bytes after it. */
static __always_inline int answer_ip(struct __sk_buff *skb, const struct packet *p, __u8 proto, __u16 len)
{
	struct iphdr v4 = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(v4) + len),
		.ttl = ANSWER_TTL,
		.protocol = proto,
		.saddr = p->tuple.dst.w[3],
		.daddr = p->tuple.src.w[3],
	};
	struct ipv6hdr v6 = { .version = 6, .payload_len = bpf_htons(len), .nexthdr = proto, .hop_limit = ANSWER_TTL };

	if (p->v6) {
		__builtin_memcpy(&v6.saddr, &p->tuple.dst, sizeof(v6.saddr));
		__builtin_memcpy(&v6.daddr, &p->tuple.src, sizeof(v6.daddr));
		return bpf_skb_store_bytes(skb, ETH_HLEN, &v6, sizeof(v6), 0) ? -DROP_REWRITE : 0;
	}
	v4.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&v4, sizeof(v4), 0));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &v4, sizeof(v4), 0) ? -DROP_REWRITE : 0;
}

/* Tells whether the packet has neither options nor extension headers, which an
 * answer would have to be made without.
 */
static __always_inline bool is_plain(const struct packet *p)
{
	return p->l4 == ETH_HLEN + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
}

static __always_inline bool is_echo_request(struct __sk_buff *skb, const struct packet *p)
{
	__u8 head[2];

	if (p->l4 + sizeof(struct icmp) > p->end || p->fragment || !is_plain(p) ||
	    p->tuple.proto != (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return false;
	if (bpf_skb_load_bytes(skb, p->l4, head, sizeof(head)))
		return false;
	return head[0] == (p->v6 ? ICMP6_ECHO_REQUEST : ICMP4_ECHO_REQUEST) && head[1] == 0;
}

/* Turns an echo request into its reply. The caller sends it back. */
static __always_inline int answer_echo(struct __sk_buff *skb, const struct packet *p)
{
	__u8 from = p->v6 ? ICMP6_ECHO_REQUEST : ICMP4_ECHO_REQUEST;
	__u8 to = p->v6 ? ICMP6_ECHO_REPLY : ICMP4_ECHO_REPLY;
	__u32 check = p->l4 + offsetof(struct icmp, check);
	int err;

	if (bpf_l4_csum_replace(skb, check, bpf_htons(from << 8), bpf_htons(to << 8), sizeof(__be16)) ||
	    bpf_skb_store_bytes(skb, p->l4, &to, sizeof(to), 0))
		return -DROP_REWRITE;
	err = answer_ip(skb, p, p->tuple.proto, p->end - p->l4);
	return err ? err : answer_ether(skb);
}
