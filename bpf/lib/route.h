/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "drop.h"
#include "nat.h"

#define AF_INET 2
#define AF_INET6 10

/* The largest packet of what the device or the host's stack has put together. */
static __always_inline __u16 route_length(struct __sk_buff *skb, const struct packet *p)
{
	__u8 offset = 0;

	if (!skb->gso_size)
		return p->end - ETH_HLEN;
	if (p->tuple.proto != IPPROTO_TCP)
		return p->l4 - ETH_HLEN + packet_l4_header(p->tuple.proto) + skb->gso_size;
	bpf_skb_load_bytes(skb, p->l4 + TCP_FLAGS - 1, &offset, sizeof(offset));
	return p->l4 - ETH_HLEN + (offset >> 4) * 4 + skb->gso_size;
}

/* Asks the host's routes for the way to an address, from either kind of hook.
 * length is that of the packet from its IP header on, or 0 where the kernel knows
 * it. Returns what the kernel says.
 */
static __always_inline long route_ask(void *ctx, __u32 ifindex, const struct packet *p, const struct addr *to,
				      __u32 length, struct bpf_fib_lookup *out)
{
	__builtin_memset(out, 0, sizeof(*out));
	out->ifindex = ifindex;
	out->tot_len = length;
	out->l4_protocol = p->tuple.proto;
	if (p->v6) {
		out->family = AF_INET6;
		__builtin_memcpy(out->ipv6_src, &p->tuple.src, sizeof(out->ipv6_src));
		__builtin_memcpy(out->ipv6_dst, to, sizeof(out->ipv6_dst));
	} else {
		out->family = AF_INET;
		out->ipv4_src = p->tuple.src.w[3];
		out->ipv4_dst = to->w[3];
	}
	return bpf_fib_lookup(ctx, out, sizeof(*out), 0);
}

/* Returns 0 when out names the interface, with the addresses of both ends when
 * their neighbour is known.
 */
static __always_inline int route_found(long result, struct bpf_fib_lookup *out)
{
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		/* The interface is known, who is behind it is not. */
		__builtin_memset(out->dmac, 0, sizeof(out->dmac));
		return 0;
	}
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return -DROP_TOO_BIG;
	return result == BPF_FIB_LKUP_RET_SUCCESS ? 0 : -DROP_FIB;
}

/* Finds the way to an address, as route_found says. */
static __always_inline int route_lookup(struct __sk_buff *skb, const struct packet *p, const struct addr *to,
					struct bpf_fib_lookup *out)
{
	return route_found(route_ask(skb, skb->ifindex, p, to, route_length(skb, p), out), out);
}

/* A forwarded packet lives a hop shorter. */
static __always_inline int route_hop(struct __sk_buff *skb, const struct packet *p)
{
	__u32 at = ETH_HLEN + (p->v6 ? offsetof(struct ipv6hdr, hop_limit) : offsetof(struct iphdr, ttl));
	__u8 ttl[2];

	if (bpf_skb_load_bytes(skb, at, ttl, sizeof(ttl)) || ttl[0] <= 1)
		return -DROP_INVALID;
	if (!p->v6) {
		/* The checksum is over pairs of bytes: ttl and protocol. */
		__be16 from, to;

		__builtin_memcpy(&from, ttl, sizeof(from));
		ttl[0]--;
		__builtin_memcpy(&to, ttl, sizeof(to));
		if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), from, to, sizeof(to)))
			return -DROP_REWRITE;
	} else {
		ttl[0]--;
	}
	return bpf_skb_store_bytes(skb, at, ttl, 1, 0) ? -DROP_REWRITE : 0;
}

/* Sends a rewritten packet where route_lookup says. */
static __always_inline int route_send(struct __sk_buff *skb, const struct bpf_fib_lookup *way)
{
	if (!(way->dmac[0] | way->dmac[1] | way->dmac[2] | way->dmac[3] | way->dmac[4] | way->dmac[5]))
		return bpf_redirect_neigh(way->ifindex, NULL, 0, 0);
	if (bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_dest), way->dmac, sizeof(way->dmac), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_source), way->smac, sizeof(way->smac), 0))
		return drop(DROP_REWRITE);
	return bpf_redirect(way->ifindex, 0);
}
