/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Counts the entries of the hash tables. The kernel keeps these numbers, but
 * tells them to programs only; to go through a table takes as long as it is
 * full.
 */

#include "lib/kernel.h"
#include "lib/maps.h"

/* One for each hash table, by its name. */
struct table_counts {
	__s64 frontends;
	__s64 reverses;
	__s64 affinities;
	__s64 conntrack;
	__s64 fragments;
	__s64 uplinks;
	__s64 endpoints;
	__s64 pods;
	__s64 clients;
};
_Static_assert(sizeof(struct table_counts) == 72, "table_counts");

/* Into the program's debug information, and from there to Go. */
const struct table_counts *unused_table_counts __attribute__((unused));

#define COUNT(table) bpf_map_sum_elem_count((const struct bpf_map *)&table)

SEC("syscall")
int count_tables(struct table_counts *out)
{
	const __u32 only = 0;
	const struct bpf_map *grown = bpf_map_lookup_elem(&frontends, &only);

	out->frontends = grown ? bpf_map_sum_elem_count(grown) : 0;
	out->reverses = COUNT(reverses);
	out->affinities = COUNT(affinities);
	out->conntrack = COUNT(conntrack);
	out->fragments = COUNT(fragments);
	out->uplinks = COUNT(uplinks);
	out->endpoints = COUNT(endpoints);
	out->pods = COUNT(pods);
	out->clients = COUNT(clients);
	return 0;
}

static long count_one(struct bpf_map *map, const void *key, void *value, void *n)
{
	(*(__s64 *)n)++;
	return 0;
}

static __always_inline __s64 count_walk(void *table)
{
	__s64 n = 0;

	bpf_for_each_map_elem(table, count_one, &n, 0);
	return n;
}

/* The same where the kernel does not tell these numbers: it goes through all of the
 * tables.
 */
SEC("syscall")
int walk_tables(struct table_counts *out)
{
	const __u32 only = 0;
	void *grown = bpf_map_lookup_elem(&frontends, &only);

	out->frontends = grown ? count_walk(grown) : 0;
	out->reverses = count_walk(&reverses);
	out->affinities = count_walk(&affinities);
	out->conntrack = count_walk(&conntrack);
	out->fragments = count_walk(&fragments);
	out->uplinks = count_walk(&uplinks);
	out->endpoints = count_walk(&endpoints);
	out->pods = count_walk(&pods);
	out->clients = count_walk(&clients);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
