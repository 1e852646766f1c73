/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/tcp.h>
#include <linux/udp.h>

#include "answer.h"
#include "offload.h"

/* Answers a segment as a host without a listener does; RFC 9293, 3.10.7.1. */
static __always_inline int reject_tcp(struct __sk_buff *skb, const struct packet *p)
{
	struct tcphdr in, out = { .doff = sizeof(out) / 4, .rst = 1 };
	__s64 sum;
	int err;

	if (bpf_skb_load_bytes(skb, p->l4, &in, sizeof(in)) || in.rst)
		return -DROP_NO_ENDPOINT;
	out.source = in.dest;
	out.dest = in.source;
	if (in.ack) {
		out.seq = in.ack_seq;
	} else {
		out.ack = 1;
		out.ack_seq = bpf_htonl(bpf_ntohl(in.seq) + p->end - p->l4 - in.doff * 4 + in.syn + in.fin);
	}
	sum = answer_pseudo(p, IPPROTO_TCP, sizeof(out));
	if (is_partial(skb))
		out.check = ~csum_fold(sum);
	else
		out.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), sum));
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(out), 0) || bpf_skb_store_bytes(skb, p->l4, &out, sizeof(out), 0))
		return -DROP_REWRITE;
	err = answer_ip(skb, p, IPPROTO_TCP, sizeof(out));
	return err ? err : answer_ether(skb);
}

/* What an ICMP error has of the datagram that it is about, of SCTP as much as of UDP;
 * RFC 792, RFC 4443.
 */
struct quote4 {
	struct iphdr ip;
	struct udphdr udp;
};

struct quote6 {
	struct ipv6hdr ip;
	struct udphdr udp;
};

/* The checksum as it will be when it is complete. That of SCTP is not quoted. */
static __always_inline void complete(struct __sk_buff *skb, const struct packet *p, struct udphdr *udp)
{
	if (p->tuple.proto != IPPROTO_UDP || !is_partial(skb))
		return;
	udp->check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)udp, sizeof(*udp), 0));
	if (!udp->check)
		udp->check = 0xffff;
}

/* Keeps the quoted part of a datagram and makes room before it. */
static __always_inline int reject_room(struct __sk_buff *skb, __u32 quote, __u32 room)
{
	return bpf_skb_change_tail(skb, ETH_HLEN + quote, 0) || bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0);
}

static __always_inline int reject_icmp4(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		struct icmp icmp;
		struct quote4 quote;
	} out = { .icmp = { .type = ICMP4_UNREACHABLE, .code = ICMP4_PORT } };

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &out.quote, sizeof(out.quote)))
		return -DROP_NO_ENDPOINT;
	complete(skb, p, &out.quote.udp);
	out.icmp.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), 0));
	if (reject_room(skb, sizeof(out.quote), sizeof(struct iphdr) + sizeof(out.icmp)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &out.icmp, sizeof(out.icmp), 0))
		return -DROP_REWRITE;
	return answer_ip(skb, p, IPPROTO_ICMP, sizeof(out));
}

static __always_inline int reject_icmp6(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		struct icmp icmp;
		struct quote6 quote;
	} out = { .icmp = { .type = ICMP6_UNREACHABLE, .code = ICMP6_PORT } };
	__s64 sum = answer_pseudo(p, IPPROTO_ICMPV6, sizeof(out));

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &out.quote, sizeof(out.quote)))
		return -DROP_NO_ENDPOINT;
	complete(skb, p, &out.quote.udp);
	out.icmp.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), sum));
	if (reject_room(skb, sizeof(out.quote), sizeof(struct ipv6hdr) + sizeof(out.icmp)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &out.icmp, sizeof(out.icmp), 0))
		return -DROP_REWRITE;
	return answer_ip(skb, p, IPPROTO_ICMPV6, sizeof(out));
}

static __always_inline int reject_icmp(struct __sk_buff *skb, const struct packet *p)
{
	int err = p->v6 ? reject_icmp6(skb, p) : reject_icmp4(skb, p);

	return err ? err : answer_ether(skb);
}

/* Refuses a packet as the host that it is for would, were nobody listening: TCP
 * with a reset, UDP and SCTP with an ICMP error. It goes back where it came from:
 * direction is that of bpf_redirect, 0 or BPF_F_INGRESS. The verifier looks at it
 * by itself.
 */
__noinline int reject(struct __sk_buff *skb, const struct packet *p, __u64 direction)
{
	int err = -DROP_NO_ENDPOINT;

	if (!p)
		return drop(DROP_INVALID);
	if (is_plain(p) && !p->fragment)
		err = p->tuple.proto == IPPROTO_TCP ? reject_tcp(skb, p) : reject_icmp(skb, p);
	if (err)
		return drop(-err);
	return bpf_redirect(skb->ifindex, direction);
}
