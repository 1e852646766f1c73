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

/* What an ICMP error has of the packet that it is about: the header of its transport
 * protocol, which is more than RFC 792 asks for. The kernel cuts off no checksum that
 * is yet to be completed.
 */
union quote_l4 {
	struct tcphdr tcp; /* the largest comes first: an initializer sets only that */
	struct udphdr udp;
	__u8 sctp[SCTP_HEADER];
};

struct quote4 {
	struct icmp icmp;
	struct iphdr ip;
	union quote_l4 l4;
};

struct quote6 {
	struct icmp icmp;
	struct ipv6hdr ip;
	union quote_l4 l4;
};

/* Reads the quoted transport header. The checksum of UDP is as it will be when it is
 * complete; after those of others more follows, which is not quoted.
 */
static __always_inline int reject_quote(struct __sk_buff *skb, const struct packet *p, union quote_l4 *l4)
{
	if (p->tuple.proto == IPPROTO_TCP)
		return bpf_skb_load_bytes(skb, p->l4, &l4->tcp, sizeof(l4->tcp));
	if (p->tuple.proto == IPPROTO_SCTP)
		return bpf_skb_load_bytes(skb, p->l4, &l4->sctp, sizeof(l4->sctp));
	if (bpf_skb_load_bytes(skb, p->l4, &l4->udp, sizeof(l4->udp)))
		return -1;
	if (is_partial(skb)) {
		l4->udp.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&l4->udp, sizeof(l4->udp), 0));
		if (!l4->udp.check)
			l4->udp.check = 0xffff;
	}
	return 0;
}

/* Cuts the packet off after its transport header and puts an ICMP header and room for
 * that of IP before what is left.
 */
static __always_inline int reject_store(struct __sk_buff *skb, const struct packet *p, const struct icmp *icmp)
{
	__u32 ip = p->l4 - ETH_HLEN;

	return bpf_skb_change_tail(skb, p->l4 + packet_l4_header(p->tuple.proto), 0) ||
	       bpf_skb_adjust_room(skb, ip + sizeof(*icmp), BPF_ADJ_ROOM_MAC, 0) ||
	       bpf_skb_store_bytes(skb, ETH_HLEN + ip, icmp, sizeof(*icmp), 0);
}

static __always_inline int reject_icmp4(struct __sk_buff *skb, const struct packet *p, __u8 code, __be32 rest)
{
	struct quote4 out = { .icmp = { .type = ICMP4_UNREACHABLE, .code = code, .rest = rest } };
	__u16 len = sizeof(out.icmp) + sizeof(out.ip) + packet_l4_header(p->tuple.proto);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &out.ip, sizeof(out.ip)) || reject_quote(skb, p, &out.l4))
		return -DROP_NO_ENDPOINT;
	out.icmp.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), 0));
	if (reject_store(skb, p, &out.icmp))
		return -DROP_REWRITE;
	return answer_ip(skb, p, IPPROTO_ICMP, len);
}

static __always_inline int reject_icmp6(struct __sk_buff *skb, const struct packet *p, __u8 type, __u8 code,
					__be32 rest)
{
	struct quote6 out = { .icmp = { .type = type, .code = code, .rest = rest } };
	__u16 len = sizeof(out.icmp) + sizeof(out.ip) + packet_l4_header(p->tuple.proto);
	__s64 sum = answer_pseudo(p, IPPROTO_ICMPV6, len);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &out.ip, sizeof(out.ip)) || reject_quote(skb, p, &out.l4))
		return -DROP_NO_ENDPOINT;
	out.icmp.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), sum));
	if (reject_store(skb, p, &out.icmp))
		return -DROP_REWRITE;
	return answer_ip(skb, p, IPPROTO_ICMPV6, len);
}

/* Tells that nobody listens or, with a size, that the packet is larger than that. */
static __always_inline int reject_icmp(struct __sk_buff *skb, const struct packet *p, __u16 size)
{
	__be32 rest = bpf_htonl(size);
	int err;

	if (!p->v6)
		err = reject_icmp4(skb, p, size ? ICMP4_FRAGMENT : ICMP4_PORT, rest);
	else if (size)
		err = reject_icmp6(skb, p, ICMP6_TOO_BIG, 0, rest);
	else
		err = reject_icmp6(skb, p, ICMP6_UNREACHABLE, ICMP6_PORT, 0);
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
		err = p->tuple.proto == IPPROTO_TCP ? reject_tcp(skb, p) : reject_icmp(skb, p, 0);
	if (err)
		return drop(-err);
	return bpf_redirect(skb->ifindex, direction);
}

/* Answers a packet that is too large for the way on. One of IPv4 that routers may
 * break up is dropped: this one does not.
 */
__noinline int reject_size(struct __sk_buff *skb, const struct packet *p)
{
	__be16 flags;
	int err = -DROP_TOO_BIG;

	if (!p || bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, frag_off), &flags, sizeof(flags)))
		return drop(DROP_TOO_BIG);
	if (is_plain(p) && !p->fragment && (p->v6 || flags & bpf_htons(IPV4_DONT_FRAGMENT)))
		err = reject_icmp(skb, p, p->fits);
	return err ? drop(-err) : bpf_redirect(skb->ifindex, 0);
}
