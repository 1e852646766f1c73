/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Translation of service addresses at sockets: a connection (TCP, connected
 * UDP) or a datagram (UDP) to a service address goes to a backend, and the
 * socket keeps seeing the service address. No packet is touched.
 */

#include <asm-generic/errno.h>
#include <linux/in.h>

#include "lib/addr.h"
#include "lib/config.h"
#include "lib/drop.h"
#include "lib/peer.h"
#include "lib/svc.h"

#define AF_INET 2

#define PROCEED 1
#define REJECT 0

static __always_inline struct addr sock_addr4(const struct bpf_sock_addr *ctx)
{
	return addr_v4(ctx->user_ip4);
}

static __always_inline struct addr sock_addr6(const struct bpf_sock_addr *ctx)
{
	struct addr a = { .w = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };

	return a;
}

/* Who asks. The address of a socket is not chosen yet, but every pod has a network
 * namespace of its own. One that nobody has entered is a client by its cookie,
 * and in no range of addresses.
 */
static __always_inline struct addr sock_client(struct bpf_sock_addr *ctx, bool v4)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	const struct pod_addrs *own = bpf_map_lookup_elem(&clients, &cookie);
	struct addr client = { .w = { 0, 0, cookie >> 32, (__u32)cookie } };

	if (own && v4 && own->v4.w[3])
		client = own->v4;
	else if (own && !v4 && own->v6.w[3])
		client = own->v6;
	return client;
}

/* Tells whether sock_release is told of the end of this socket. The kernel makes
 * those of multipath TCP for itself; where these cannot be told apart no TCP socket
 * is taken for one that is released.
 */
static __always_inline bool sock_is_released(struct bpf_sock_addr *ctx)
{
	if (!has_mptcp_sock)
		return ctx->protocol != IPPROTO_TCP;
	return !bpf_skc_to_mptcp_sock(ctx->sk);
}

/* Remembers that this socket is connected to the backend when it means the service.
 * Returns false when it cannot have a slot.
 */
static __always_inline bool remember_peer(__u64 cookie, struct bpf_sock_addr *ctx, const struct frontend_key *service,
					  const struct backend *backend)
{
	struct peer *peer = sock_is_released(ctx) ? peer_claim(cookie) : NULL;

	if (!peer) {
		if (!has_mptcp_sock)
			peer_share(cookie);
		return false;
	}
	peer->netns = bpf_get_netns_cookie(ctx);
	peer->backend = backend->addr;
	peer->service = service->addr;
	peer->backend_port = backend->port;
	peer->service_port = service->port;
	peer->proto = service->proto;
	/* Who sees the turn sees all of it. */
	__sync_fetch_and_add(&peer->turn, 1);
	return true;
}

/* Remembers that this socket means the service when it talks to the backend. One
 * that is connected to the backend may send it datagrams by the service, too.
 */
static __always_inline void remember(struct bpf_sock_addr *ctx, const struct frontend_key *service,
				     const struct backend *backend, bool connects)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	bool connected = connects || peer_find(cookie, &backend->addr, backend->port);

	if (connected && remember_peer(cookie, ctx, service, backend))
		return;
	struct reverse_key key = { .cookie = cookie, .addr = backend->addr, .port = backend->port };
	struct reverse value = {
		.addr = service->addr,
		.port = service->port,
		.proto = service->proto,
		.netns = bpf_get_netns_cookie(ctx),
	};

	if (!connects) {
		const struct reverse *before = bpf_map_lookup_elem(&reverses, &key);

		value.unconnected = !before || before->unconnected;
	}
	bpf_map_update_elem(&reverses, &key, &value, BPF_ANY);
}

static __always_inline int sock_select(struct bpf_sock_addr *ctx, const struct frontend_key *key, struct backend *out)
{
	const struct frontend *found = svc_frontend(key);

	if (!found)
		return SVC_NONE;
	/* Most Services do not mind who asks. */
	if (!found->affinity && !found->sources)
		return svc_nth(found, bpf_get_prandom_u32(), out);
	struct addr client = sock_client(ctx, addr_is_v4(&key->addr));

	return svc_pick_for(key, found, &client, 0, out);
}

static __always_inline int translate(struct bpf_sock_addr *ctx, struct addr *addr, bool connects)
{
	struct frontend_key key = {
		.addr = *addr,
		.port = ctx->user_port,
		.proto = ctx->protocol,
		.scope = SCOPE_CLUSTER,
	};
	struct backend backend;
	int result = sock_select(ctx, &key, &backend);

	if (result != SVC_FOUND)
		return result;
	remember(ctx, &key, &backend, connects);
	*addr = backend.addr;
	ctx->user_port = backend.port;
	return SVC_FOUND;
}

/* The service that this socket means by the peer, if any. */
static __always_inline bool recall(struct bpf_sock_addr *ctx, struct addr *addr)
{
	struct use use = {};

	if (!peer_use(bpf_get_socket_cookie(ctx), addr, ctx->user_port, &use))
		return false;
	*addr = use.service;
	ctx->user_port = use.service_port;
	return true;
}

static __always_inline int sock_reject(int err)
{
	/* Without a reason of its own the kernel says EPERM. */
	if (has_set_retval)
		bpf_set_retval(err);
	return REJECT;
}

/* Refuses an address without backends, or one that the client may not use. To
 * connect a UDP socket is no attempt to reach anybody, and programs do it to learn
 * their own address: without backends it succeeds. What is sent then is refused as a
 * packet.
 */
static __always_inline int refuse(const struct bpf_sock_addr *ctx, int why, bool connects)
{
	if (why == SVC_DENIED) {
		drop(DROP_SOURCE_RANGE);
		return sock_reject(-EPERM);
	}
	if (connects && ctx->protocol == IPPROTO_UDP)
		return PROCEED;
	return sock_reject(-ECONNREFUSED);
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, bool connects)
{
	struct addr addr = sock_addr4(ctx);
	int result = translate(ctx, &addr, connects);

	if (result < 0)
		return refuse(ctx, result, connects);
	if (result == SVC_FOUND)
		ctx->user_ip4 = addr.w[3];
	return PROCEED;
}

static __always_inline void store6(struct bpf_sock_addr *ctx, const struct addr *addr)
{
	ctx->user_ip6[0] = addr->w[0];
	ctx->user_ip6[1] = addr->w[1];
	ctx->user_ip6[2] = addr->w[2];
	ctx->user_ip6[3] = addr->w[3];
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, bool connects)
{
	struct addr addr = sock_addr6(ctx);
	int result = translate(ctx, &addr, connects);

	if (result < 0)
		return refuse(ctx, result, connects);
	if (result == SVC_FOUND)
		store6(ctx, &addr);
	return PROCEED;
}

static __always_inline int reverse4(struct bpf_sock_addr *ctx)
{
	struct addr addr = sock_addr4(ctx);

	if (recall(ctx, &addr))
		ctx->user_ip4 = addr.w[3];
	return PROCEED;
}

static __always_inline int reverse6(struct bpf_sock_addr *ctx)
{
	struct addr addr = sock_addr6(ctx);

	if (recall(ctx, &addr))
		store6(ctx, &addr);
	return PROCEED;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, true);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, true);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, false);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, false);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

SEC("cgroup/getpeername4")
int sock_peer4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/getpeername6")
int sock_peer6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

/* Forgets a socket that is closed, so that the maps are left to those that live.
 * What unconnected ones have used is not known here; it is evicted.
 */
SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	/* Volatile, for the compiler must not merge loads from the two families:
	 * the verifier wants constant offsets.
	 */
	const volatile struct bpf_sock *sk = ctx;
	struct reverse_key key = { .cookie = bpf_get_socket_cookie(ctx), .port = sk->dst_port };

	if (!peer_release(key.cookie) || !key.port)
		return PROCEED;
	if (sk->family == AF_INET) {
		key.addr = addr_v4(sk->dst_ip4);
	} else {
		for (int i = 0; i < 4; i++)
			key.addr.w[i] = sk->dst_ip6[i];
	}
	bpf_map_delete_elem(&reverses, &key);
	return PROCEED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
