// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// path says what the data path does.
func (e *explainer) path(target proxy.Target, found match) {
	empty := len(target.Backends) == 0
	switch {
	case found == none:
		e.untouched()
	case !allows(target, e.clientAddr()):
		how := "the connection is refused at the socket (operation not permitted)"
		if e.From.Outside() {
			how = "packets are dropped at the uplink"
		}
		e.say("The client is in none of the Service's source ranges: %s and counted as source_range.", how)
		e.detail("allowed are %s", strings.Trim(fmt.Sprint(target.Sources), "[]"))
	case e.From.Outside() && empty && target.Silent:
		e.say("There are endpoints on other nodes only, and the policy is Local: packets are dropped at the uplink and counted as no_endpoint.")
	case e.From.Outside() && empty:
		e.say("The connection is refused at the uplink: with a TCP reset, or an ICMP error.")
	case e.From.Outside():
		e.uplink(target)
	case e.To.Protocol == bpf.ProtocolSCTP:
		e.packets(target.Backends)
	case empty && e.To.Protocol == bpf.ProtocolUDP:
		e.say("A socket may connect, but each datagram that it sends is refused at once (connection refused).")
	case empty:
		e.say("The connection is refused at the socket (connection refused), at once.")
	default:
		verb := "connects"
		if e.To.Protocol == bpf.ProtocolUDP {
			verb = "connects, or with each datagram that it sends without"
		}
		e.say("The address is translated at the socket, when it %s. Packets carry the backend's address from the start; none is changed.", verb)
		e.delivery(target.Backends)
	}
}

// packets says what happens to packets of a protocol whose sockets are not seen.
func (e *explainer) packets(backends []bpf.Backend) {
	switch {
	case e.From.Pod == nil || e.From.Pod.Spec.HostNetwork:
		e.say("SCTP of the node itself is not translated: packets are routed by this node as they are.")
	case len(backends) == 0:
		e.say("Packets are refused on the pod's interface, with an ICMP error.")
	default:
		e.say("The address is translated in each packet, on the pod's interface.")
		e.delivery(backends)
	}
}

// clientAddr is the address by which Services know who connects.
func (e *explainer) clientAddr() netip.Addr {
	if e.From.Outside() {
		return e.From.Addr
	}
	addrs := e.Facts.Primary
	if e.From.Pod != nil && !e.From.Pod.Spec.HostNetwork {
		addrs = nil
		for _, ip := range e.From.Pod.Status.PodIPs {
			if addr, err := netip.ParseAddr(ip.IP); err == nil {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	for _, addr := range addrs {
		if addr.Is4() == e.To.Addr.Addr().Is4() {
			return addr
		}
	}
	return netip.Addr{}
}

// allows tells whether a client may use a frontend.
func allows(target proxy.Target, addr netip.Addr) bool {
	return target.Sources == nil || slices.ContainsFunc(target.Sources, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// untouched is for addresses that are no frontends.
func (e *explainer) untouched() {
	pod := e.podAt(e.To.Addr.Addr())
	switch {
	case e.From.Outside() && pod != nil:
		e.say("Packets go to the pod as they are, if the other host has a route to it.")
	case e.From.Outside():
		e.say("Packets are left to this node's own network: a process that listens there answers, or nobody.")
	case pod != nil && pod.Spec.NodeName == e.Facts.NodeName && e.From.Pod != nil && !e.From.Pod.Spec.HostNetwork:
		e.say("Packets go from pod to pod on this node, past the host's network.")
	case pod != nil:
		e.say("Packets are routed to the pod with the client's address.")
	case e.From.Pod != nil && !e.From.Pod.Spec.HostNetwork:
		e.say("Packets are routed by this node; what leaves the cluster has the node's address as its source.")
	default:
		e.say("Packets are routed by this node as they are.")
	}
}

// delivery says how packets of sockets get to backends.
func (e *explainer) delivery(backends []bpf.Backend) {
	local := slices.ContainsFunc(backends, func(b bpf.Backend) bool { return b.Flags&bpf.BackendLocalPod != 0 })
	if pod := e.From.Pod; local && pod != nil && !pod.Spec.HostNetwork {
		e.detail("to a pod of this node: directly, past the host's network")
	}
	if slices.ContainsFunc(backends, func(b bpf.Backend) bool { return b.Flags == 0 }) {
		e.detail("to another node: routed, with the client's address as the source")
	}
}

// uplink says what happens to packets of other hosts, by where backends are.
func (e *explainer) uplink(target proxy.Target) {
	elsewhere := "to another node: new destination, and this node's address as the source (SNAT), so that replies come back here"
	if target.Direct {
		elsewhere = "to another node: new destination; that node answers the client itself (DSR)"
	}
	e.say("The first packet is translated at the uplink, and noted in conntrack; all others follow it.")
	for _, kind := range []struct {
		says string
		is   func(bpf.BackendFlags) bool
	}{
		{"to a pod of this node: new destination; the pod sees the client's address", func(f bpf.BackendFlags) bool { return f&bpf.BackendLocalPod != 0 }},
		{"to this node itself: new destination; goes up the host's network", func(f bpf.BackendFlags) bool { return f&bpf.BackendLocalHost != 0 }},
		{elsewhere, func(f bpf.BackendFlags) bool { return f == 0 }},
	} {
		if slices.ContainsFunc(target.Backends, func(b bpf.Backend) bool { return kind.is(b.Flags) }) {
			e.detail("%s", kind.says)
		}
	}
}

// policies names those that select the client or a pod that it may reach.
func (e *explainer) policies(target proxy.Target) {
	pods := []*corev1.Pod{e.podAt(e.To.Addr.Addr())}
	if e.From.Pod != nil {
		pods = append(pods, e.From.Pod)
	}
	for _, b := range target.Backends {
		pods = append(pods, e.podAt(b.Addr))
	}
	var names []string
	for _, policy := range e.Policies {
		if slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return selects(policy, p) }) {
			names = append(names, policy.Namespace+"/"+policy.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	e.say("NetworkPolicies that select one of these pods: %s. Slipway does not enforce NetworkPolicies: they change nothing.", strings.Join(slices.Compact(names), ", "))
}

func selects(policy *networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	if pod == nil || pod.Namespace != policy.Namespace || pod.Spec.HostNetwork {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}

// sameTarget compares what the kernel has with what the objects call for. How
// connections are balanced and forwarded may be flags of the agent, which are not
// known here.
func sameTarget(have, want proxy.Target) bool {
	want.Maglev, want.Direct = have.Maglev, have.Direct
	return have.Equal(want)
}

// compare says where the kernel is not what the objects call for, and what of
// the Service cannot be served.
func (e *explainer) compare(f bpf.Frontend) {
	e.unserved(f)
	have, inKernel := e.Kernel[f]
	want, wanted := e.wanted[f]
	same := inKernel == wanted && sameTarget(have, want)
	others := 0
	for key, target := range e.wanted {
		if got, ok := e.Kernel[key]; key != f && (!ok || !sameTarget(got, target)) {
			others++
		}
	}
	for key := range e.Kernel {
		if _, ok := e.wanted[key]; key != f && !ok {
			others++
		}
	}
	switch {
	case !same:
		e.say("The kernel differs from the API's objects: the proxy is behind, or does not run. See `slipway status`, and try again.")
		e.differences(have.Backends, want.Backends, inKernel, wanted)
	case inKernel || wanted:
		e.say("The kernel has what the API's objects call for.")
	}
	if others > 0 && !same {
		e.detail("%d other frontends differ, too", others)
	} else if others > 0 {
		e.say("Of other frontends %d differ from the API's objects.", others)
	}
}

func (e *explainer) differences(have, want []bpf.Backend, inKernel, wanted bool) {
	switch {
	case !inKernel:
		e.detail("the frontend is missing; it should have %d backends", len(want))
		return
	case !wanted:
		e.detail("there should be no such frontend")
		return
	}
	for _, b := range want {
		if !slices.Contains(have, b) {
			e.detail("missing: %s", e.backend(b, ""))
		}
	}
	for _, b := range have {
		if !slices.Contains(want, b) {
			e.detail("too much: %s", e.backend(b, ""))
		}
	}
}

// unserved repeats the problems of the Service with the address.
func (e *explainer) unserved(f bpf.Frontend) {
	var names []string
	for _, s := range e.Objects.Services {
		if kindOf(s, f.Addr) != "" {
			names = append(names, fmt.Sprintf("Service %s/%s", s.Namespace, s.Name))
		}
	}
	if owner := e.owners[f]; owner != "" {
		names = append(names, owner)
	}
	for _, p := range e.problems {
		if slices.Contains(names, p.Object) {
			e.say("%s", p.Error())
		}
	}
}

// dropped says which packets like these were dropped, if any.
func (e *explainer) dropped() {
	reasons := []string{"invalid", "spoofed", "fragment"}
	if e.From.Outside() {
		reasons = []string{"no_endpoint", "remote_backend", "conntrack_conflict", "rewrite", "fib", "snat_ports_exhausted", "source_range", "direct_return", "fragment", "too_big"}
	}
	var counts []string
	for reason, n := range e.Drops {
		if n > 0 && slices.Contains(reasons, reason.String()) {
			counts = append(counts, fmt.Sprintf("%s %d", reason, n))
		}
	}
	if len(counts) == 0 || e.From.Pod == nil && !e.From.Outside() {
		return
	}
	slices.Sort(counts)
	e.say("Since it was started the data path has dropped, of all packets on such a way: %s.", strings.Join(counts, ", "))
}
