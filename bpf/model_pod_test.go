// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// podFrom is what happens to a packet of a pod.
func (m *model) podFrom(in *message, from bpf.Endpoint, seen []byte) outcome {
	if in == nil {
		return gone("cannot be parsed")
	}
	link := in.src.Addr().Is6() && (in.src.Addr().IsLinkLocalUnicast() || in.src.Addr().IsUnspecified())
	if !link && !slices.Contains(from.Addrs, in.src.Addr()) {
		return gone("spoofed")
	}
	if m.lost(in, bpf.ScopeCluster) {
		return gone("fragment before the first")
	}
	if e, known := m.track(in); known && in.ports && e.action != "direct" {
		return m.follow(in, e)
	}
	if out, e, known := m.translateError(in, "dnat", "snat", "both"); known {
		if e.action == "snat" && e.uplink {
			return sent("error about a request", out)
		}
		return m.toPod(out, "error of a pod")
	}
	if _, here := m.endpoints[in.dst.Addr()]; here {
		return m.toPod(in, "pod to pod")
	}
	if !in.ports {
		return m.echo(in, bpf.ScopeCluster)
	}
	return m.openFromPod(in, seen)
}

// openFromPod opens a connection to a Service that was not translated at a socket.
func (m *model) openFromPod(in *message, seen []byte) outcome {
	rest, isRest := m.services[bpf.Frontend{Addr: in.dst.Addr(), Scope: bpf.ScopeCluster}]
	goesOn := in.later || in.proto == unix.IPPROTO_TCP && in.payload[13]&0x12 != 2
	f := bpf.Frontend{Addr: in.dst.Addr(), Port: in.dst.Port(), Protocol: bpf.Protocol(in.proto), Scope: bpf.ScopeCluster}
	service, found := m.services[f]
	if !found {
		service = rest
	}
	switch {
	case goesOn && !isRest || !found && !isRest:
		return next("to the host", in)
	case in.later:
		return gone("fragment of a forgotten connection")
	case !service.allows(in.src.Addr()):
		return gone("source range")
	case len(service.backends) == 0 && service.silent:
		return gone("endpoints elsewhere")
	case len(service.backends) == 0:
		return in.reject()
	}
	itself := func(b bpf.Backend) bool { return b.Addr == in.src.Addr() }
	possible := func(b bpf.Backend) bool { return itself(b) || m.unambiguous(in, b) }
	out, b, wrong := m.chosen(in, f, service, seen, possible, func(bpf.Backend) bool { return true })
	if wrong != nil {
		return *wrong
	}
	e := modelEntry{action: "dnat", dst: out.dst}
	if !itself(b) {
		back := modelTuple{out.dst, in.src, in.proto}
		m.replace(back, in.dst)
		m.conntrack[back] = modelEntry{action: "snat", src: in.dst}
	} else {
		back := modelTuple{out.dst, netip.AddrPortFrom(in.dst.Addr(), out.src.Port()), in.proto}
		if _, taken := m.conntrack[back]; taken || out.src.Port() < 1024 || out.src.Port() >= 32768 {
			return outcome{why: "a free source port from 1024 to 32767"}
		}
		e = modelEntry{action: "both", src: back.dst, dst: out.dst}
		m.conntrack[back] = modelEntry{action: "both", src: in.dst, dst: in.src}
	}
	m.conntrack[in.tuple()] = e
	return m.follow(in, e)
}

// follow is what happens to a packet of a pod that belongs to a known connection.
func (m *model) follow(in *message, e modelEntry) outcome {
	m.remember(in)
	out := in.to(in.dst)
	if e.action != "dnat" {
		out.src = e.src
	}
	switch {
	case e.action == "snat" && e.uplink:
		return sent("reply"+in.kind(), out)
	case e.action == "snat":
		return m.toPod(out, "reply to a pod"+in.kind())
	case e.action == "both":
		out.dst = e.dst
		return m.toPod(out, "of a pod to itself"+in.kind())
	}
	out.dst = e.dst
	return m.toPod(out, "request of a pod"+in.kind())
}

// podTo is what happens to a packet that comes to a pod by the host's stack.
func (m *model) podTo(in *message) outcome {
	if in == nil {
		return outcome{verdict: verdictNext, why: "cannot be parsed"}
	}
	if m.lost(in, bpf.ScopeCluster) {
		return next("fragment before the first, not ours", in)
	}
	if out, _, known := m.translateError(in, "snat", "both"); known {
		return next("error for a client", out)
	}
	e, known := m.track(in)
	if !known || !in.ports || e.action != "snat" {
		return next("to a pod", in)
	}
	m.remember(in)
	in.src = e.src
	return next("reply to a client"+in.kind(), in)
}
