/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Addresses are always 16 bytes; IPv4 is v4-mapped (::ffff:a.b.c.d). */
struct addr {
	__be32 w[4];
};

/* Where a frontend may be used from. */
enum scope {
	SCOPE_CLUSTER = 0, /* pods and the node itself */
	SCOPE_EXTERNAL = 1, /* other hosts */
};

struct frontend_key {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 scope;
};
_Static_assert(sizeof(struct frontend_key) == 20, "frontend_key");

/* The range of slots of a frontend. It is replaced as a whole, so a reader sees
 * either the old range or the new one.
 */
struct frontend {
	__u32 first;
	__u32 count;
	__u32 generation;
	__u32 affinity; /* for how long a client keeps its backend, seconds; 0: not at all */
	__u32 sources; /* the set of addresses that may use it; 0: all */
	__u32 flags;
	__u64 service; /* with affinity: the port of a Service, the same for all of its frontends */
};
_Static_assert(sizeof(struct frontend) == 32, "frontend");

enum frontend_flags {
	/* Without backends here, but with some elsewhere: packets are dropped, so
	 * that clients try again, not rejected.
	 */
	FRONTEND_SILENT = 1 << 0,
	/* The range is a Maglev table: a hash of the client chooses the slot. */
	FRONTEND_MAGLEV = 1 << 1,
	/* Backends of other nodes answer the client themselves. */
	FRONTEND_DSR = 1 << 2,
};

/* A range of addresses in a set; prefixlen counts the bits of set and addr. The
 * lowest bit of set is 1 for IPv6, so that its ::/0 has no IPv4 in it.
 */
struct source {
	__u32 prefixlen;
	__u32 set;
	struct addr addr;
};
_Static_assert(sizeof(struct source) == 24, "source");

/* The set of all addresses that cluster addresses are taken from. */
#define SET_SERVICES 0

/* A client of a Service with affinity, by whichever of its addresses. */
struct affinity_key {
	__u64 service;
	struct addr client;
};
_Static_assert(sizeof(struct affinity_key) == 24, "affinity_key");

/* The backend that a client had last. */
struct affinity {
	struct addr addr;
	__be16 port;
	__u16 pad[3];
	__u64 seen; /* ns since boot */
};
_Static_assert(sizeof(struct affinity) == 32, "affinity");

enum backend_flags {
	BACKEND_LOCAL_POD = 1 << 0,
	BACKEND_LOCAL_HOST = 1 << 1,
};

struct backend {
	struct addr addr;
	__be16 port;
	__u16 flags;
	__u32 pad;
};
_Static_assert(sizeof(struct backend) == 24, "backend");

/* A socket that talks to a service address: which one, by peer. */
struct reverse_key {
	__u64 cookie;
	struct addr addr;
	__be16 port;
	__u16 pad[3];
};
_Static_assert(sizeof(struct reverse_key) == 32, "reverse_key");

struct reverse {
	struct addr addr;
	__be16 port;
	__u8 proto;
	__u8 unconnected; /* of a socket without a peer, which is never closed */
	__u8 pad[4];
	__u64 netns; /* cookie of the socket's network namespace */
};
_Static_assert(sizeof(struct reverse) == 32, "reverse");

/* How many slots there are for sockets that have a peer; a power of two. */
#define PEERS 16384

/* What a socket means that is connected to a backend, in the slot of its cookie. */
struct peer {
	__u64 cookie; /* 0 in a slot that is free */
	__u64 netns;
	struct addr backend;
	struct addr service;
	__be16 backend_port;
	__be16 service_port;
	__u8 proto;
	__u8 shared; /* sockets that found the slot taken are in reverses */
	__u8 pad[2];
	__u32 turn; /* how often the slot was filled */
	__u32 searched; /* the turn whose socket needs no search; written by Go */
};
_Static_assert(sizeof(struct peer) == 64, "peer");

/* How sockets came to a backend: by a service address. */
struct use {
	struct addr service;
	struct addr backend;
	__be16 service_port;
	__be16 backend_port;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct use) == 40, "use");

struct tuple {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct tuple) == 40, "tuple");

/* CT_BOTH is the two others together. */
enum ct_action {
	CT_DNAT = 1, /* rewrite the destination to addr, port */
	CT_SNAT = 2, /* rewrite the source to addr, port */
	CT_BOTH = 3, /* rewrite the destination to addr, port and the source to from, from_port */
	CT_DSR = 4, /* as CT_DNAT, to another node that answers itself; from is the source */
};

enum ct_closed {
	CT_CLOSED = 1 << 0, /* one end has closed: another connection may have the tuple */
	CT_OVER = 1 << 1, /* who sends these packets has closed, or all is over */
};

/* What to do with packets of a tuple. A translated connection has two entries,
 * one for each way.
 */
struct ct {
	struct addr addr;
	struct addr from;
	__be16 port;
	__be16 from_port;
	__u16 action;
	__u16 closed; /* of enum ct_closed */
	__u32 ifindex; /* CT_SNAT: the uplink that the client is behind */
	__u32 reply; /* packets come from the backend */
	__u64 seen; /* when it was last used, ns since boot; set once a second */
};
_Static_assert(sizeof(struct ct) == 56, "ct");

/* A fragmented datagram. IPv6 has no protocol here: later fragments may not know
 * it.
 */
struct fragment_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");

/* What its first fragment has told. */
struct fragment {
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
	__u64 seen; /* when, ns since boot */
};
_Static_assert(sizeof(struct fragment) == 16, "fragment");

struct mac {
	__u8 b[6];
};

/* A pod of this node, by address. */
struct endpoint {
	__u32 ifindex;
	struct mac pod;
	struct mac host;
	__u64 netns; /* cookie of its network namespace; 0 when it is not known */
};
_Static_assert(sizeof(struct endpoint) == 24, "endpoint");

/* The addresses that may be used behind a pod interface, by its index, or that
 * sockets of a network namespace have; zero where there is none.
 */
struct pod_addrs {
	struct addr v4;
	struct addr v6;
};
_Static_assert(sizeof(struct pod_addrs) == 32, "pod_addrs");

enum uplink_flags {
	UPLINK_XDP = 1 << 0, /* XDP programs may send out of it */
};

/* The addresses of this node on an uplink, by the index of the interface. */
struct uplink {
	struct addr v4;
	struct addr v6;
	__u32 flags;
};
_Static_assert(sizeof(struct uplink) == 36, "uplink");

/* What the control plane has switched on. */
struct settings {
	__u32 takeover; /* where packets may belong to another proxy's connections */
};
_Static_assert(sizeof(struct settings) == 4, "settings");

enum takeover {
	TAKEOVER_UPLINKS = 1 << 0,
	TAKEOVER_PODS = 1 << 1,
	/* All new connections at uplinks are left to the other proxy. */
	TAKEOVER_NEW = 1 << 2,
};

/* Why a packet was dropped. Go names are generated from this enum. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_INVALID = 1,
	DROP_SPOOFED = 2,
	DROP_NO_ENDPOINT = 3,
	DROP_REMOTE_BACKEND = 4,
	DROP_CT_FULL = 5,
	DROP_REWRITE = 6,
	DROP_FIB = 7,
	DROP_SNAT_PORTS = 8,
	DROP_SOURCE_RANGE = 9,
	DROP_DSR = 10,
	DROP_FRAGMENT = 11,
	DROP_TOO_BIG = 12,
	DROP_MAX = 13,
};
