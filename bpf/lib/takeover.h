/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include "config.h"
#include "netfilter.h"
#include "packet.h"
#include "settings.h"
#include "table.h"

/* Connections that another proxy has begun: netfilter tracks and translates them,
 * and goes on to do so after that proxy is gone. Their packets are left to the
 * host's stack. This is switched on only while there may be such connections, and
 * new ones are told by their first packet, so that those of ours cost nothing.
 */

/* What does not fit on the stack. No program that uses it interrupts another on the
 * same CPU.
 */
struct takeover_scratch {
	struct tuple tuple;
	struct bpf_sock_tuple key;
	struct bpf_ct_opts opts;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct takeover_scratch);
} takeover_scratch SEC(".maps");

static __always_inline struct takeover_scratch *takeover_space(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&takeover_scratch, &key);
}

/* Looks a tuple up in netfilter's table. A kernel without connection tracking has
 * none. What is found must be released.
 */
static __always_inline struct nf_conn *takeover_lookup(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct takeover_scratch *s = takeover_space();
	__u32 size = sizeof(s->key.ipv6);

	if (!s || !has_ct_lookup)
		return NULL;
	__builtin_memset(&s->opts, 0, sizeof(s->opts));
	s->opts.netns_id = BPF_F_CURRENT_NETNS;
	s->opts.l4proto = tuple->proto;
	if (addr_is_v4(&tuple->src)) {
		s->key.ipv4.saddr = tuple->src.w[3];
		s->key.ipv4.daddr = tuple->dst.w[3];
		s->key.ipv4.sport = tuple->sport;
		s->key.ipv4.dport = tuple->dport;
		size = sizeof(s->key.ipv4);
	} else {
		__builtin_memcpy(s->key.ipv6.saddr, &tuple->src, sizeof(s->key.ipv6.saddr));
		__builtin_memcpy(s->key.ipv6.daddr, &tuple->dst, sizeof(s->key.ipv6.daddr));
		s->key.ipv6.sport = tuple->sport;
		s->key.ipv6.dport = tuple->dport;
	}
	return bpf_skb_ct_lookup(skb, &s->key, size, &s->opts, sizeof(s->opts));
}

/* Looks up what would come back to the source of a tuple from an address. */
static __always_inline struct nf_conn *takeover_lookup_back(struct __sk_buff *skb, struct takeover_scratch *s,
							    const struct tuple *tuple, const struct addr *from,
							    __be16 port)
{
	s->tuple.src = *from;
	s->tuple.dst = tuple->src;
	s->tuple.sport = port;
	s->tuple.dport = tuple->sport;
	s->tuple.proto = tuple->proto;
	return takeover_lookup(skb, &s->tuple);
}

/* Tells whether a connection was begun to this address. */
static __always_inline bool takeover_is_to(const struct nf_conn *ct, const struct addr *to, __be16 port)
{
	const union nf_inet_addr *dst = &ct->tuplehash[0].tuple.dst.u3;

	if (ct->tuplehash[0].tuple.dst.u.all != port)
		return false;
	if (addr_is_v4(to))
		return dst->all[0] == to->w[3];
	return dst->all[0] == to->w[0] && dst->all[1] == to->w[1] && dst->all[2] == to->w[2] && dst->all[3] == to->w[3];
}

/* Tells whether netfilter translates the connection of a tuple, either way. One
 * that was never answered is not kept, for its backend may be gone; unless this is
 * the answer.
 */
static __always_inline bool takeover_tracks(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct takeover_scratch *s = takeover_space();
	struct nf_conn *ct = takeover_lookup(skb, tuple);
	__u64 status;

	if (!ct)
		return false;
	status = ct->status;
	bpf_ct_release(ct);
	return status & IPS_NAT_MASK && (status & IPS_SEEN_REPLY || (s && s->opts.dir));
}

/* Tells whether a packet is the first of a connection that says so. */
static __always_inline bool takeover_begins(const struct packet *p)
{
	return p->tuple.proto == IPPROTO_TCP && packet_opens(p);
}

/* Tells whether a packet for a frontend, of no connection that we know, is to be
 * left to netfilter.
 */
static __always_inline bool takeover_keeps(struct __sk_buff *skb, const struct packet *p,
					   const struct frontend_key *frontend)
{
	__u32 now = takeover_now();

	if (now & TAKEOVER_NEW)
		return true;
	if (!(now & TAKEOVER_UPLINKS) || !table_frontend(frontend))
		return false;
	return !takeover_begins(p) && takeover_tracks(skb, &p->tuple);
}

/* Tells whether the answers to a packet would look like those of a connection that
 * netfilter translates: a client that knows a ClusterIP uses the same port when it
 * talks straight to the pod.
 */
static __always_inline bool takeover_mirrors(struct __sk_buff *skb, const struct tuple *tuple)
{
	struct takeover_scratch *s = takeover_space();
	struct nf_conn *ct;
	bool mirrors;

	if (!s)
		return false;
	ct = takeover_lookup_back(skb, s, tuple, &tuple->dst, tuple->dport);
	if (!ct)
		return false;
	mirrors = ct->status & IPS_NAT_MASK && s->opts.dir;
	bpf_ct_release(ct);
	return mirrors;
}

/* The same for a packet from a pod to another pod of this node. It may be the reply
 * to a request that netfilter brought there, and must come by it again. A new
 * connection whose replies would look like such gets another port by netfilter.
 */
static __always_inline bool takeover_keeps_pod(struct __sk_buff *skb, const struct packet *p)
{
	bool begins;

	if (!p->ports || !(takeover_now() & TAKEOVER_PODS) || !bpf_map_lookup_elem(&endpoints, &p->tuple.dst))
		return false;
	begins = takeover_begins(p);
	if (!begins && takeover_tracks(skb, &p->tuple))
		return true;
	return (begins || p->tuple.proto != IPPROTO_TCP) && takeover_mirrors(skb, &p->tuple);
}

/* The same for a packet from a pod to a frontend, of no connection that we know. */
static __always_inline bool takeover_keeps_request(struct __sk_buff *skb, const struct packet *p)
{
	return takeover_now() & TAKEOVER_PODS && !takeover_begins(p) && takeover_tracks(skb, &p->tuple);
}

/* Tells whether netfilter uses a tuple that we are about to use. */
static __always_inline bool takeover_uses(struct __sk_buff *skb, const struct tuple *tuple)
{
	return takeover_now() & TAKEOVER_UPLINKS && takeover_tracks(skb, tuple);
}

/* Tells whether the backend already talks to this end of the client, in a connection
 * that netfilter has brought it from another address.
 */
static __always_inline bool takeover_conflicts(struct __sk_buff *skb, const struct tuple *tuple,
					       const struct backend *backend)
{
	struct takeover_scratch *s;
	struct nf_conn *ct;
	bool conflicts;

	if (!(takeover_now() & TAKEOVER_UPLINKS))
		return false;
	s = takeover_space();
	if (!s)
		return false;
	ct = takeover_lookup_back(skb, s, tuple, &backend->addr, backend->port);
	if (!ct)
		return false;
	conflicts = ct->status & IPS_NAT_MASK && !takeover_is_to(ct, &tuple->dst, tuple->dport);
	bpf_ct_release(ct);
	return conflicts;
}
