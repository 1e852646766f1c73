/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* The few types of the kernel itself that are read. Offsets are those of the
 * running kernel: they are put in when a program is loaded.
 */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
};

struct udp_sock;
struct seq_file;

struct bpf_map {
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};

#pragma clang attribute pop

/* Ends a connection with an error for whoever has the socket (Linux 6.5). */
extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;

/* How many entries a hash table has (Linux 6.6). */
extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym __weak;
