/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "types.h"

/* A hash of connections that is the same on all nodes, so that a connection that
 * another node takes over leads where it led. It is Bob Jenkins' lookup3, which is
 * in the public domain; hash_test.go has it in Go.
 */
#define HASH_START 0xdeadbeef

static __always_inline __u32 hash_rotate(__u32 word, __u32 by)
{
	return word << by | word >> (32 - by);
}

static __always_inline void hash_mix(__u32 *a, __u32 *b, __u32 *c)
{
	*a -= *c, *a ^= hash_rotate(*c, 4), *c += *b;
	*b -= *a, *b ^= hash_rotate(*a, 6), *a += *c;
	*c -= *b, *c ^= hash_rotate(*b, 8), *b += *a;
	*a -= *c, *a ^= hash_rotate(*c, 16), *c += *b;
	*b -= *a, *b ^= hash_rotate(*a, 19), *a += *c;
	*c -= *b, *c ^= hash_rotate(*b, 4), *b += *a;
}

static __always_inline __u32 hash_final(__u32 a, __u32 b, __u32 c)
{
	c ^= b, c -= hash_rotate(b, 14);
	a ^= c, a -= hash_rotate(c, 11);
	b ^= a, b -= hash_rotate(a, 25);
	c ^= b, c -= hash_rotate(b, 16);
	a ^= c, a -= hash_rotate(c, 4);
	b ^= a, b -= hash_rotate(a, 14);
	c ^= b, c -= hash_rotate(b, 24);
	return c;
}

/* Hashes a client and the frontend that it uses. */
static __noinline __u32 hash_client(const struct frontend_key *key, const struct addr *client, __be16 port)
{
	__u32 a = HASH_START, b = HASH_START, c = HASH_START;

	a += client->w[0], b += client->w[1], c += client->w[2];
	hash_mix(&a, &b, &c);
	a += client->w[3], b += key->addr.w[0], c += key->addr.w[1];
	hash_mix(&a, &b, &c);
	a += key->addr.w[2], b += key->addr.w[3], c += (__u32)bpf_ntohs(port) << 16 | bpf_ntohs(key->port);
	hash_mix(&a, &b, &c);
	return hash_final(a + key->proto, b, c);
}
