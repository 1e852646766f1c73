// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// modelService is what a frontend leads to.
type modelService struct {
	backends []bpf.Backend
	affinity bool
	// number is that of its Service port, by which clients are remembered.
	number uint64
	// sources are those that may use it; nil when all may.
	sources []netip.Prefix
	silent  bool
	// table has the backend of each slot, when a hash of the client chooses it.
	table []bpf.Backend
	// direct has backends of other nodes answer the client themselves.
	direct bool
}

// modelTuple is a connection as a packet has it.
type modelTuple struct {
	src, dst netip.AddrPort
	proto    byte
}

// modelEntry says what to do with the packets of a connection.
type modelEntry struct {
	action   string // "dnat", "snat", "both" or "direct"
	src, dst netip.AddrPort
	// closed is a TCP connection that one end has closed; over, that the one who
	// sends these packets has, or either by a reset.
	closed, over bool
	// uplink is set for replies to another host.
	uplink bool
}

// modelFragment is a fragmented datagram; IPv6 has no protocol here.
type modelFragment struct {
	src, dst netip.Addr
	id       uint32
	proto    byte
}

// model is the data path of a node in plain Go, without anything that makes it
// fast. Where the data path chooses at random, the model is told the choice and
// says whether it may be.
type model struct {
	services  map[bpf.Frontend]modelService
	endpoints map[netip.Addr]bpf.Endpoint
	conntrack map[modelTuple]modelEntry
	affinity  map[uint64]map[netip.Addr]netip.AddrPort
	// fragments have the ports of first fragments that were translated.
	fragments map[modelFragment]modelTuple
	// routes lead to pods of other nodes, out of an uplink with these addresses.
	routes  []netip.Prefix
	uplinks []netip.Addr
	// neighbours are those that are known, with the addresses of their links:
	// theirs, then this node's.
	neighbours map[netip.Addr][2]net.HardwareAddr
}

// outcome is what the model expects of a packet.
type outcome struct {
	verdict uint32
	// packet is nil when it is dropped.
	packet []byte
	// why is for the reader of a failure.
	why string
}

const verdictNext = 0xffffffff

func next(why string, m *message) outcome { return outcome{verdictNext, m.bytes(), why} }
func gone(why string) outcome             { return outcome{verdict: verdictDrop, why: why} }
func sent(why string, m *message) outcome { return outcome{verdictRedirect, m.bytes(), why} }

// uplinkIn is what happens to a packet of another host. seen is the packet that
// the data path has made of it.
func (m *model) uplinkIn(in *message, seen []byte) outcome {
	if in == nil {
		return outcome{verdict: verdictNext, why: "cannot be parsed"}
	}
	if m.lost(in, bpf.ScopeExternal) {
		return gone("fragment before the first")
	}
	if !in.ports {
		return m.icmpIn(in)
	}
	if f, named := in.direct(); named {
		return m.acceptDirect(in, f)
	}
	if e, known := m.track(in); known && e.action == "dnat" {
		m.remember(in)
		return m.toPod(in.to(e.dst), "known, to a pod"+in.kind())
	} else if known && e.action == "both" {
		return m.passOn(in, e)
	} else if known && e.action == "direct" {
		return m.passDirect(in, e)
	}
	if _, found := m.services[bpf.Frontend{Addr: in.dst.Addr(), Scope: bpf.ScopeExternal}]; in.later && found {
		return gone("fragment of a forgotten connection")
	} else if in.later {
		return next("fragment of a forgotten connection, to the host", in)
	}
	return m.open(in, seen)
}

// track finds the connection of a packet, and notes its end. After that a client
// may begin another one.
func (m *model) track(in *message) (modelEntry, bool) {
	e, known := m.conntrack[in.tuple()]
	if !known || in.proto != unix.IPPROTO_TCP || in.later || !in.ports {
		return e, known
	}
	const fin, syn, rst, ack = 1, 2, 4, 16
	flags := in.payload[13]
	if flags&(syn|ack) == syn && e.closed || flags&(syn|ack) == syn|ack && e.over {
		delete(m.conntrack, in.tuple())
		return e, false
	}
	if flags&(fin|rst) != 0 && flags&syn == 0 {
		if other, there := m.conntrack[e.back(in)]; there {
			other.closed, other.over = true, other.over || flags&rst != 0
			m.conntrack[e.back(in)] = other
		}
		noted := e
		noted.closed, noted.over = true, true
		m.conntrack[in.tuple()] = noted
	}
	return e, true
}

// back is the tuple of packets that go the other way.
func (e modelEntry) back(in *message) modelTuple {
	switch e.action {
	case "dnat":
		return modelTuple{e.dst, in.src, in.proto}
	case "snat":
		return modelTuple{in.dst, e.src, in.proto}
	}
	return modelTuple{e.dst, e.src, in.proto}
}

// icmpIn is what happens to packets of other hosts without ports.
func (m *model) icmpIn(in *message) outcome {
	out, e, known := m.translateError(in, "dnat", "both")
	switch {
	case !known:
		return m.echo(in, bpf.ScopeExternal)
	case e.action == "dnat":
		return m.toPod(out, "error for a backend")
	}
	return m.route(out, "error for another node or from it")
}

func (m *model) open(in *message, seen []byte) outcome {
	f := bpf.Frontend{Addr: in.dst.Addr(), Port: in.dst.Port(), Protocol: bpf.Protocol(in.proto), Scope: bpf.ScopeExternal}
	service, found := m.services[f]
	switch {
	case !found:
		return next("no service", in)
	case !service.allows(in.src.Addr()):
		return gone("source range")
	case len(service.backends) == 0 && service.silent:
		return gone("endpoints elsewhere")
	case len(service.backends) == 0:
		return in.reject()
	}
	return m.connect(in, f, service, seen)
}

// connect opens a connection to the backend that the data path has chosen.
func (m *model) connect(in *message, f bpf.Frontend, service modelService, seen []byte) outcome {
	possible := func(b bpf.Backend) bool { return b.Flags == 0 || m.unambiguous(in, b) }
	out, b, wrong := m.chosen(in, f, service, seen, possible, func(b bpf.Backend) bool { return m.forwards(in, b) })
	if wrong != nil {
		return *wrong
	}
	if b.Flags == 0 && service.direct && (in.hasRoom() || !in.opens()) {
		m.conntrack[in.tuple()] = modelEntry{action: "direct", src: in.src, dst: out.dst}
		return m.passDirect(in, m.conntrack[in.tuple()])
	}
	if b.Flags == 0 {
		return m.openRemote(in, out)
	}
	back := modelTuple{out.dst, in.src, in.proto}
	m.replace(back, in.dst)
	m.conntrack[in.tuple()] = modelEntry{action: "dnat", dst: out.dst}
	m.conntrack[back] = modelEntry{action: "snat", src: in.dst, uplink: true}
	m.remember(in)
	return m.toPod(in.to(out.dst), "new, to a pod"+in.kind())
}

// replace takes the way back from another connection, if one has it.
func (m *model) replace(back modelTuple, service netip.AddrPort) {
	other, taken := m.conntrack[back]
	to := other.dst
	if other.action == "snat" {
		to = other.src
	}
	if taken && to != service {
		delete(m.conntrack, other.back(&message{src: back.src, dst: back.dst, proto: back.proto}))
	}
}

// key is the datagram that a fragment is of.
func (in *message) key() modelFragment {
	if in.src.Addr().Is6() {
		return modelFragment{in.src.Addr(), in.dst.Addr(), in.id, 0}
	}
	return modelFragment{in.src.Addr(), in.dst.Addr(), in.id, in.proto}
}

// kind says more of a packet when it is a fragment.
func (in *message) kind() string {
	switch {
	case in.later:
		return ", later fragment"
	case in.fragment:
		return ", first fragment"
	}
	return ""
}

// remember notes the ports of a first fragment.
func (m *model) remember(in *message) {
	if in.fragment && !in.later {
		m.fragments[in.key()] = in.tuple()
	}
}

// lost gives a later fragment its ports, or tells that it cannot be for anybody.
func (m *model) lost(in *message, scope bpf.Scope) bool {
	if !in.later {
		return false
	}
	if first, known := m.fragments[in.key()]; known {
		in.src, in.dst, in.proto, in.ports = first.src, first.dst, first.proto, true
		return false
	}
	_, found := m.services[bpf.Frontend{Addr: in.dst.Addr(), Scope: scope}]
	return found
}

// chosen is the backend that the data path has chosen, and its packet; or what is to
// be expected when it may not have. A backend that is not possible is tried, and
// another is taken; one that it does not forward to loses the packet.
func (m *model) chosen(in *message, f bpf.Frontend, service modelService, seen []byte, possible, forwards func(bpf.Backend) bool) (*message, bpf.Backend, *outcome) {
	client, kept := in.src.Addr(), m.due(in, f, service)
	doubtful := slices.ContainsFunc(service.backends, func(b bpf.Backend) bool { return !possible(b) })
	if seen == nil {
		// What was chosen cannot be told.
		m.keep(client, service, netip.AddrPort{})
		if doubtful || slices.ContainsFunc(service.backends, func(b bpf.Backend) bool { return !forwards(b) }) {
			return nil, bpf.Backend{}, &outcome{verdict: verdictDrop, why: "no possible backend"}
		}
		return nil, bpf.Backend{}, &outcome{why: "a service with backends"}
	}
	out := parse(seen)
	if out == nil {
		return nil, bpf.Backend{}, &outcome{why: "a packet"}
	}
	b, ok := service.at(out.dst)
	if last, there := service.at(kept); !ok || there && possible(last) && last != b {
		return nil, b, &outcome{why: "a backend of the service, " + kept.String() + " if it has that"}
	}
	if doubtful {
		m.keep(client, service, netip.AddrPort{})
	} else {
		m.keep(client, service, out.dst)
	}
	return out, b, nil
}

// allows tells whether a client may use the service.
func (s modelService) allows(client netip.Addr) bool {
	return s.sources == nil || slices.ContainsFunc(s.sources, func(p netip.Prefix) bool { return p.Contains(client) })
}

func (s modelService) at(addr netip.AddrPort) (bpf.Backend, bool) {
	i := slices.IndexFunc(s.backends, func(b bpf.Backend) bool { return netip.AddrPortFrom(b.Addr, b.Port) == addr })
	if i < 0 {
		return bpf.Backend{}, false
	}
	return s.backends[i], true
}

// hashed is the backend that a hash of the client chooses.
func (s modelService) hashed(f bpf.Frontend, client netip.AddrPort) netip.AddrPort {
	if s.affinity {
		client = netip.AddrPortFrom(client.Addr(), 0)
	}
	b := s.table[int(hashClient(f, client))%len(s.table)]
	return netip.AddrPortFrom(b.Addr, b.Port)
}

// due is the backend that a client must get: that which it had last, or else the one
// that a hash of it chooses; none where anything may be chosen, or cannot be told.
func (m *model) due(in *message, f bpf.Frontend, service modelService) netip.AddrPort {
	var last netip.AddrPort
	known := false
	if service.affinity {
		last, known = m.affinity[service.number][in.src.Addr()]
	}
	if _, there := service.at(last); there || len(service.table) == 0 || known && !last.IsValid() {
		return last
	}
	hashed := service.hashed(f, in.src)
	m.keep(in.src.Addr(), service, hashed)
	return hashed
}

// keep notes what a client was given, unless it keeps what it has. That may be by
// another frontend, and none of the backends of this one.
func (m *model) keep(client netip.Addr, service modelService, at netip.AddrPort) {
	if !service.affinity {
		return
	}
	last, known := m.affinity[service.number][client]
	if _, there := service.at(last); known && (there || last == netip.AddrPort{}) {
		return
	}
	if m.affinity[service.number] == nil {
		m.affinity[service.number] = map[netip.Addr]netip.AddrPort{}
	}
	m.affinity[service.number][client] = at
}

// unambiguous tells whether replies of the backend could be told apart from those
// of other connections.
func (m *model) unambiguous(in *message, b bpf.Backend) bool {
	other, taken := m.conntrack[modelTuple{netip.AddrPortFrom(b.Addr, b.Port), in.src, in.proto}]
	return !taken || other.closed || other.action == "snat" && other.src == in.dst
}

// forwards tells whether the node may send the packet to the backend.
func (m *model) forwards(in *message, b bpf.Backend) bool {
	return b.Flags != 0 || in.ttl > 1 && m.routed(b.Addr)
}

func (m *model) routed(to netip.Addr) bool {
	return slices.ContainsFunc(m.routes, func(p netip.Prefix) bool { return p.Contains(to) })
}

// openRemote opens a connection to a backend of another node.
func (m *model) openRemote(in, out *message) outcome {
	if !m.routed(out.dst.Addr()) {
		return gone("no route")
	}
	own := m.uplinks[0]
	if own.Is4() != in.src.Addr().Is4() {
		own = m.uplinks[1]
	}
	back := modelTuple{out.dst, netip.AddrPortFrom(own, out.src.Port()), in.proto}
	if _, taken := m.conntrack[back]; taken || out.src.Port() < 1024 || out.src.Port() >= 32768 {
		return outcome{why: "a free source port from 1024 to 32767"}
	}
	m.conntrack[in.tuple()] = modelEntry{action: "both", src: back.dst, dst: out.dst}
	m.conntrack[back] = modelEntry{action: "both", src: in.dst, dst: in.src}
	return m.passOn(in, m.conntrack[in.tuple()])
}

func (m *model) passOn(in *message, e modelEntry) outcome {
	out := in.to(e.dst)
	out.src = e.src
	sent := m.route(out, "to another node"+in.kind())
	if sent.packet != nil {
		m.remember(in)
	}
	return sent
}

// route sends a packet on.
func (m *model) route(out *message, why string) outcome {
	if out.ttl <= 1 {
		return gone("time to live")
	}
	out.ttl--
	if !m.routed(out.dst.Addr()) {
		return gone("no route")
	}
	if macs, known := m.neighbours[out.dst.Addr()]; known {
		copy(out.ether[0:], macs[0])
		copy(out.ether[6:], macs[1])
	}
	return sent(why, out)
}

func (m *model) toPod(out *message, why string) outcome {
	pod, here := m.endpoints[out.dst.Addr()]
	if !here {
		return next(why+" by the host", out)
	}
	copy(out.ether[0:], pod.PodMAC)
	copy(out.ether[6:], pod.HostMAC)
	return sent(why, out)
}

// echo answers echo requests to service addresses.
func (m *model) echo(in *message, scope bpf.Scope) outcome {
	request := map[byte]byte{unix.IPPROTO_ICMP: 8, unix.IPPROTO_ICMPV6: 128}[in.proto]
	wrong := in.fragment || len(in.options) > 0 || in.src.Addr().Is4() != (in.proto == unix.IPPROTO_ICMP)
	if _, found := m.services[bpf.Frontend{Addr: in.dst.Addr(), Scope: scope}]; !found || wrong || request == 0 ||
		len(in.payload) < 8 || in.payload[0] != request || in.payload[1] != 0 {
		return next("not ours", in)
	}
	out := in.answer(in.proto, slices.Clone(in.payload))
	out.trailer = in.trailer
	out.payload[0] = map[byte]byte{8: 0, 128: 129}[request]
	return sent("echo reply", out)
}

// reject answers a packet that nobody listens to.
func (in *message) reject() outcome {
	if len(in.options) > 0 || in.fragment {
		return gone("options, or a fragment")
	}
	if in.proto == unix.IPPROTO_TCP {
		return in.reset()
	}
	quote := slices.Concat(in.header, in.payload[:l4Header[in.proto]])
	if in.src.Addr().Is4() {
		return sent("ICMP error", in.answer(unix.IPPROTO_ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quote...)))
	}
	return sent("ICMP error", in.answer(unix.IPPROTO_ICMPV6, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, quote...)))
}

func (in *message) reset() outcome {
	if in.payload[13]&4 != 0 {
		return gone("no answer to a reset")
	}
	tcp, flags := make([]byte, 20), in.payload[13]
	copy(tcp[0:2], in.payload[2:4])
	copy(tcp[2:4], in.payload[0:2])
	tcp[12], tcp[13] = 5<<4, 4
	if flags&0x10 != 0 {
		copy(tcp[4:8], in.payload[8:12])
	} else {
		length := uint32(len(in.payload)) - uint32(in.payload[12]>>4)*4 + uint32(flags>>1&1) + uint32(flags&1)
		binary.BigEndian.PutUint32(tcp[8:], binary.BigEndian.Uint32(in.payload[4:])+length)
		tcp[13] |= 0x10
	}
	return sent("reset", in.answer(unix.IPPROTO_TCP, tcp))
}
