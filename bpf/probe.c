/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* One program for each thing that kernels differ in and that the data path can do
 * without. They are loaded one by one and never run: the verifier of the running
 * kernel takes a program, or not. The features of config.h have the same names.
 */

#include "lib/kernel.h"
#include "lib/netfilter.h"
#include "lib/offload.h"
#include "lib/settings.h"

SEC("tc")
int ct_lookup(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_ct_opts opts = { .netns_id = BPF_F_CURRENT_NETNS };
	struct nf_conn *ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));

	if (ct)
		bpf_ct_release(ct);
	return 0;
}

SEC("tc")
int kern_ctx(struct __sk_buff *skb)
{
	return !bpf_cast_to_kern_ctx(skb);
}

static long loop_end(__u32 i, void *data)
{
	return 1;
}

SEC("tc")
int loop(struct __sk_buff *skb)
{
	return bpf_loop(1, loop_end, NULL, 0);
}

SEC("cgroup/connect4")
int mptcp_sock(struct bpf_sock_addr *ctx)
{
	return !bpf_skc_to_mptcp_sock(ctx->sk);
}

SEC("cgroup/connect4")
int set_retval(struct bpf_sock_addr *ctx)
{
	bpf_set_retval(-1);
	return 0;
}

SEC("iter/tcp")
int sock_destroy(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	if (sk && sk->skc_state == BPF_TCP_ESTABLISHED)
		bpf_sock_destroy(sk);
	return 0;
}

SEC("syscall")
int elem_count(void *ctx)
{
	bpf_map_sum_elem_count((const struct bpf_map *)&settings);
	return 0;
}

SEC("xdp.frags")
int xdp_frags(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
