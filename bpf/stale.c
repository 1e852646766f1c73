/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Closes sockets whose backend is gone. Go opens an iterator in each network
 * namespace; the kernel shows its sockets to these programs one by one. For each
 * that is closed they write one byte, so that the length of what is read is
 * their number.
 */

#include <linux/in.h>

#include "lib/addr.h"
#include "lib/kernel.h"
#include "lib/maps.h"
#include "lib/peer.h"

#define AF_INET 2
#define AF_INET6 10

/* What is to be closed. Not pinned: Go fills it for a scan and empties it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct use);
	__type(value, __u8);
} stale SEC(".maps");

static __always_inline struct addr stale_peer(const struct sock_common *sk)
{
	struct addr a = {};

	if (sk->skc_family == AF_INET)
		return addr_v4(sk->skc_daddr);
	for (int i = 0; i < 4; i++)
		a.w[i] = sk->skc_v6_daddr.in6_u.u6_addr32[i];
	return a;
}

/* Tells whether the socket came to its peer by a service that no longer means
 * it. One that connected straight to the backend is never among them.
 */
static __always_inline bool stale_is(struct sock_common *sk, __u8 proto)
{
	struct addr backend = stale_peer(sk);
	struct use use = {};

	return peer_use(bpf_get_socket_cookie(sk), &backend, sk->skc_dport, &use) && use.proto == proto &&
	       bpf_map_lookup_elem(&stale, &use);
}

static __always_inline void stale_close(struct sock_common *sk, __u8 proto, struct seq_file *seq)
{
	const __u8 one = 1;

	if (sk->skc_family != AF_INET && sk->skc_family != AF_INET6)
		return;
	if (stale_is(sk, proto) && !bpf_sock_destroy(sk))
		bpf_seq_write(seq, &one, sizeof(one));
}

SEC("iter/tcp")
int stale_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (!sk)
		return 0;
	/* Those without a peer, and those that nobody has any more. */
	switch (sk->skc_state) {
	case BPF_TCP_TIME_WAIT:
	case BPF_TCP_CLOSE:
	case BPF_TCP_LISTEN:
	case BPF_TCP_NEW_SYN_RECV:
		return 0;
	}
	stale_close(sk, IPPROTO_TCP, ctx->meta->seq);
	return 0;
}

SEC("iter/udp")
int stale_udp(struct bpf_iter__udp *ctx)
{
	struct sock_common *sk = (struct sock_common *)ctx->udp_sk;

	/* The state of UDP sockets that are connected. */
	if (sk && sk->skc_state == BPF_TCP_ESTABLISHED)
		stale_close(sk, IPPROTO_UDP, ctx->meta->seq);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
