/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <stddef.h>

#include "answer.h"
#include "ct.h"
#include "route.h"
#include "svc.h"

/* Direct server return: the node that balances leaves the client's address in the
 * packet, and tells the backend's node in an IP option by which Service address
 * the client came. That node takes the option off and answers the client itself.
 *
 * The option is on what may be the first that the backend's node sees of a
 * connection: on TCP's SYN, and on every datagram, for who balances does not see
 * whether it was answered. Its numbers are those for experiments; RFC 4727.
 */
#define DSR_TYPE4 158
#define DSR_TYPE6 0x1e

struct dsr4 {
	__u8 type;
	__u8 len;
	__be16 port;
	__be32 addr;
};
_Static_assert(sizeof(struct dsr4) == 8, "dsr4");

/* With the header for destination options around it. */
struct dsr6 {
	__u8 next;
	__u8 words; /* of eight bytes, besides the first */
	__u8 type;
	__u8 len; /* of what follows */
	__be16 port;
	__u16 pad;
	struct addr addr;
};
_Static_assert(sizeof(struct dsr6) == 24, "dsr6");

/* What becomes of the option. */
enum dsr_option {
	DSR_NOT_NEEDED = 0,
	DSR_FITS = 1,
	DSR_NO_ROOM = 2,
};

static __always_inline __u32 dsr_size(const struct packet *p)
{
	return p->v6 ? sizeof(struct dsr6) : sizeof(struct dsr4);
}

/* Where the ports are in a packet with nothing but the option. */
static __always_inline __u32 dsr_base(const struct packet *p)
{
	return ETH_HLEN + (p->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
}

/* Finds the way to a backend for a packet with its option. Beside other options
 * and extension headers, or in a packet that the device is to cut into several,
 * there is no room for it. Returns what becomes of the option, or a negative drop
 * reason.
 */
static __always_inline int dsr_route(struct __sk_buff *skb, const struct packet *p, const struct addr *to,
				     struct bpf_fib_lookup *way)
{
	__u32 in = skb->ifindex;
	bool needed = packet_opens(p);
	bool fits = needed && p->l4 == dsr_base(p) && !skb->gso_size && !p->fragment;
	__u32 length = route_length(skb, p);
	long result = route_ask(skb, in, p, to, length + (fits ? dsr_size(p) : 0), way);
	int err;

	if (fits && result == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		fits = false;
		result = route_ask(skb, in, p, to, length, way);
	}
	err = route_found(result, way);
	if (err || !needed)
		return err;
	return fits ? DSR_FITS : DSR_NO_ROOM;
}

static __always_inline int dsr_push4(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		struct iphdr ip;
		struct dsr4 option;
	} out;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &out.ip, sizeof(out.ip)) ||
	    bpf_skb_adjust_room(skb, sizeof(out.option), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -DROP_DSR;
	out.option = (struct dsr4){ DSR_TYPE4, sizeof(out.option), p->tuple.dport, p->tuple.dst.w[3] };
	out.ip.ihl = sizeof(out) / 4;
	out.ip.tot_len = bpf_htons(bpf_ntohs(out.ip.tot_len) + sizeof(out.option));
	out.ip.check = 0;
	out.ip.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&out, sizeof(out), 0));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &out, sizeof(out), 0) ? -DROP_DSR : 0;
}

static __always_inline int dsr_push6(struct __sk_buff *skb, const struct packet *p)
{
	struct ipv6hdr ip;
	struct dsr6 option = {
		.next = p->tuple.proto,
		.words = sizeof(option) / 8 - 1,
		.type = DSR_TYPE6,
		.len = sizeof(option) - offsetof(struct dsr6, port),
		.port = p->tuple.dport,
		.addr = p->tuple.dst,
	};

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_adjust_room(skb, sizeof(option), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -DROP_DSR;
	ip.nexthdr = IPPROTO_DSTOPTS;
	ip.payload_len = bpf_htons(bpf_ntohs(ip.payload_len) + sizeof(option));
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(ip), &option, sizeof(option), BPF_F_RECOMPUTE_CSUM))
		return -DROP_DSR;
	return 0;
}

/* Puts the option on a packet, with the address that it came to. */
static __always_inline int dsr_push(struct __sk_buff *skb, const struct packet *p)
{
	return p->v6 ? dsr_push6(skb, p) : dsr_push4(skb, p);
}

/* Reads the option of a packet that has no other. Tells whether there is one, and
 * by which frontend the client came.
 */
static __always_inline bool dsr_read(struct __sk_buff *skb, const struct packet *p, struct frontend_key *out)
{
	struct dsr4 v4;
	struct dsr6 v6;

	if (p->fragment || p->l4 != dsr_base(p) + dsr_size(p))
		return false;
	__builtin_memset(out, 0, sizeof(*out));
	out->proto = p->tuple.proto;
	out->scope = SCOPE_EXTERNAL;
	if (!p->v6) {
		if (bpf_skb_load_bytes(skb, dsr_base(p), &v4, sizeof(v4)) || v4.type != DSR_TYPE4 ||
		    v4.len != sizeof(v4))
			return false;
		out->addr = addr_v4(v4.addr);
		out->port = v4.port;
		return true;
	}
	if (bpf_skb_load_bytes(skb, dsr_base(p), &v6, sizeof(v6)) || v6.next != p->tuple.proto ||
	    v6.type != DSR_TYPE6 || v6.len != sizeof(v6) - offsetof(struct dsr6, port) || addr_is_v4(&v6.addr))
		return false;
	out->addr = v6.addr;
	out->port = v6.port;
	return true;
}

static __always_inline int dsr_pop4(struct __sk_buff *skb)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_adjust_room(skb, -(__s32)sizeof(struct dsr4), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -DROP_DSR;
	ip.ihl = sizeof(ip) / 4;
	ip.tot_len = bpf_htons(bpf_ntohs(ip.tot_len) - sizeof(struct dsr4));
	ip.check = 0;
	ip.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0) ? -DROP_DSR : 0;
}

static __always_inline int dsr_pop6(struct __sk_buff *skb, const struct packet *p)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_adjust_room(skb, -(__s32)sizeof(struct dsr6), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -DROP_DSR;
	ip.nexthdr = p->tuple.proto;
	ip.payload_len = bpf_htons(bpf_ntohs(ip.payload_len) - sizeof(struct dsr6));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ? -DROP_DSR : 0;
}

/* Takes the option off. */
static __always_inline int dsr_pop(struct __sk_buff *skb, const struct packet *p)
{
	return p->v6 ? dsr_pop6(skb, p) : dsr_pop4(skb);
}

static __always_inline bool dsr_is(const struct frontend_key *key)
{
	const struct frontend *found = table_frontend(key);

	return found && found->flags & FRONTEND_DSR;
}

/* Where a backend of a frontend is, as its flags say; negative when the frontend
 * does not lead to it.
 */
static __always_inline int dsr_place(const struct frontend_key *key, const struct addr *addr, __be16 port)
{
	const struct frontend *found = table_frontend(key);
	struct affinity_search search = { .addr = *addr, .port = port };

	if (!found || !(found->flags & FRONTEND_DSR))
		return -DROP_DSR;
	search.first = found->first;
	return affinity_has(&search, found->count) ? search.flags : -DROP_DSR;
}

/* Where the packet goes by the frontend that its option names. Addresses of other
 * nodes are frontends for the pods here only.
 */
static __always_inline int dsr_named(const struct frontend_key *named, const struct tuple *tuple)
{
	struct frontend_key key = *named;
	int place = dsr_place(&key, &tuple->dst, tuple->dport);

	if (place >= 0)
		return place;
	key.scope = SCOPE_CLUSTER;
	return dsr_place(&key, &tuple->dst, tuple->dport);
}

/* Enters a connection whose packets go to a backend of another node with their
 * source as it is.
 */
static __always_inline int dsr_create(const struct tuple *tuple, const struct backend *backend, struct ct *request)
{
	__builtin_memset(request, 0, sizeof(*request));
	request->addr = backend->addr;
	request->port = backend->port;
	request->from = tuple->src;
	request->from_port = tuple->sport;
	request->action = CT_DSR;
	request->seen = bpf_ktime_get_coarse_ns();
	return bpf_map_update_elem(&conntrack, tuple, request, BPF_ANY) ? -DROP_CT_FULL : 0;
}

/* Enters both ways of a connection that another node has sent here: requests go
 * to where they are going, replies come from the service address and leave by the
 * uplink. Of two connections of one client to one backend by different addresses
 * the last one is answered. A connection that is known stays so when its backend
 * leaves the Service. Returns 1 for one that only passes by on its way to another
 * node.
 */
static __always_inline int dsr_enter(const struct tuple *tuple, const struct frontend_key *service, __u32 uplink,
				     struct ct *entry)
{
	struct tuple back = {
		.src = tuple->dst,
		.dst = tuple->src,
		.sport = tuple->dport,
		.dport = tuple->sport,
		.proto = tuple->proto,
	};
	const struct ct *known = bpf_map_lookup_elem(&conntrack, &back);
	bool same = known && known->action == CT_SNAT && known->port == service->port &&
		    addr_equal(&known->addr, &service->addr);
	int place = same ? BACKEND_LOCAL_POD : dsr_named(service, tuple);

	if (place <= 0)
		return place < 0 ? place : 1;
	__builtin_memset(entry, 0, sizeof(*entry));
	entry->addr = service->addr;
	entry->port = service->port;
	entry->action = CT_SNAT;
	entry->reply = true;
	entry->ifindex = uplink;
	entry->seen = bpf_ktime_get_coarse_ns();
	if (bpf_map_update_elem(&conntrack, &back, entry, BPF_ANY))
		return -DROP_CT_FULL;
	entry->addr = tuple->dst;
	entry->port = tuple->dport;
	entry->action = CT_DNAT;
	entry->reply = false;
	back = *tuple;
	return bpf_map_update_elem(&conntrack, &back, entry, BPF_ANY) ? -DROP_CT_FULL : 0;
}
