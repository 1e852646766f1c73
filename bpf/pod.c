/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
//go:build ignore

/* Traffic from a pod, at the host end of its veth pair: no source address but
 * the pod's own leaves it; replies get the service address back, those of a NodePort
 * connection leave through the uplink; connections to Services that were not
 * translated at the socket get a backend; what is for another pod of this node goes
 * there directly; all else is routed by the host.
 */

#include <stddef.h>

#include "lib/choose.h"
#include "lib/ct.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/error.h"
#include "lib/fragment.h"
#include "lib/nat.h"
#include "lib/reject.h"
#include "lib/snat.h"
#include "lib/takeover.h"

/* Link-local and unspecified addresses are used by neighbour discovery only;
 * the host does not route them.
 */
static __always_inline bool is_link_scope(const struct addr *a)
{
	if ((a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return true;
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == 0 && a->w[3] == 0;
}

static __always_inline bool is_own(__u32 ifindex, const struct packet *p)
{
	const struct pod_addrs *own = bpf_map_lookup_elem(&pods, &ifindex);

	if (!own)
		return false;
	if (p->v6)
		return addr_equal(&p->tuple.src, &own->v6) || is_link_scope(&p->tuple.src);
	return addr_equal(&p->tuple.src, &own->v4);
}

/* Where a translated packet goes. Replies to other hosts leave past netfilter, which
 * has not seen the request and might take them for traffic to be masqueraded.
 */
static __always_inline int leave(struct __sk_buff *skb, const struct addr *to, const struct ct *ct)
{
	if (ct->action == CT_SNAT && ct->ifindex)
		return bpf_redirect_neigh(ct->ifindex, NULL, 0, 0);
	return deliver_local(skb, to);
}

static __always_inline int translate(struct __sk_buff *skb, const struct packet *p, const struct ct *ct)
{
	int err = nat_apply(skb, p, ct);

	return err ? drop(-err) : leave(skb, ct->action == CT_SNAT ? &p->tuple.dst : &ct->addr, ct);
}

/* A packet of a connection that is translated. */
__noinline int follow(struct __sk_buff *skb, const struct packet *p, const struct ct *known)
{
	struct ct ct;

	if (!p || !known)
		return drop(DROP_INVALID);
	ct = *known;
	return translate(skb, p, &ct);
}

/* Enters a connection of the pod to a backend. One to itself has the Service's
 * address as its source: no host takes packets of its own from outside.
 */
static __always_inline int enter(const struct packet *p, const struct backend *backend, struct ct *request)
{
	if (addr_equal(&backend->addr, &p->tuple.src))
		return snat_create(&p->tuple, backend, &p->tuple.dst, request);
	return ct_create(&p->tuple, backend, 0, request);
}

/* What does not fit on the stack. pod_from does not interrupt itself on a CPU. */
struct pod_scratch {
	struct backend backend;
	struct ct request;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pod_scratch);
} pod_scratch SEC(".maps");

static __always_inline struct pod_scratch *scratch(void)
{
	const __u32 only = 0;

	return bpf_map_lookup_elem(&pod_scratch, &only);
}

/* What may be the first packet of a connection to a Service, from a socket that the
 * socket programs have not seen.
 */
__noinline int open(struct __sk_buff *skb, const struct packet *p)
{
	struct pod_scratch *s = scratch();
	enum drop_reason reason = DROP_NO_ENDPOINT;

	if (!p || !s)
		return drop(DROP_INVALID);
	if (takeover_keeps_request(skb, p))
		return VERDICT_NEXT;
	for (int i = 0; i < SVC_TRIES; i++) {
		int result = choose(p, SCOPE_CLUSTER, i, &s->backend);

		if (result == SVC_NONE)
			return VERDICT_NEXT;
		if (result == SVC_EMPTY)
			return reject(skb, p, 0);
		if (result == SVC_DENIED)
			return drop(DROP_SOURCE_RANGE);
		if (result != SVC_FOUND)
			break;
		result = enter(p, &s->backend, &s->request);
		if (!result)
			return translate(skb, p, &s->request);
		reason = -result;
	}
	return drop(reason);
}

/* Tells whether a packet that belongs to no known connection may be the first of
 * one. What goes on, or is a later fragment, is looked at only when its address is a
 * Service's alone: most of it is for hosts outside, and should not wait.
 */
static __always_inline bool is_opening(const struct packet *p)
{
	return (packet_opens(p) && !p->later) || svc_has(&p->tuple.dst, SCOPE_CLUSTER);
}

/* ICMP: errors about connections that are translated, and echo requests. */
__noinline int icmp_from(struct __sk_buff *skb, struct packet *p)
{
	struct pod_scratch *s = scratch();
	int result;

	if (!p || !s)
		return VERDICT_NEXT;
	result = error_translate(skb, p, CT_BOTH, &s->request);
	if (result)
		return result < 0 ? drop(-result) : leave(skb, &p->tuple.dst, &s->request);
	result = deliver_local(skb, &p->tuple.dst);
	return result != VERDICT_NEXT ? result : echo(skb, p, SCOPE_CLUSTER, 0);
}

SEC("tc")
int pod_from(struct __sk_buff *skb)
{
	struct packet p;
	const struct ct *known;
	int result = packet_parse(skb, &p);

	if (result > 0)
		return VERDICT_NEXT;
	if (result < 0)
		return drop(-result);
	if (!is_own(skb->ifindex, &p))
		return drop(DROP_SPOOFED);
	if (p.later && fragment_lost(&p, SCOPE_CLUSTER))
		return drop(DROP_FRAGMENT);
	if (!p.ports)
		return icmp_from(skb, &p);
	known = ct_track(&p);
	/* What another host has begun with this tuple is not the pod's. */
	if (known && known->action != CT_DSR)
		return follow(skb, &p, known);
	if (takeover_keeps_pod(skb, &p))
		return VERDICT_NEXT;
	result = deliver_local(skb, &p.tuple.dst);
	if (result != VERDICT_NEXT || !is_opening(&p))
		return result;
	/* The connection of its first fragment was forgotten meanwhile. */
	return p.later ? drop(DROP_FRAGMENT) : open(skb, &p);
}

/* What comes to a pod by the host's stack: replies of backends on the host network
 * and of other nodes, and errors about requests.
 */
SEC("tc")
int pod_to(struct __sk_buff *skb)
{
	struct packet p;
	struct ct ct = {};
	const struct ct *reply;
	int result;

	if (packet_parse(skb, &p) || (p.later && fragment_lost(&p, SCOPE_CLUSTER)))
		return VERDICT_NEXT;
	if (!p.ports) {
		result = error_translate(skb, &p, CT_SNAT, &ct);
		return result < 0 ? drop(-result) : VERDICT_NEXT;
	}
	reply = ct_track(&p);
	if (!reply || reply->action != CT_SNAT)
		return VERDICT_NEXT;
	ct = *reply;
	result = nat_apply(skb, &p, &ct);
	return result ? drop(-result) : VERDICT_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
