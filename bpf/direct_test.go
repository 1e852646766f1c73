// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// The option of direct server return, as lib/dsr.h has it.
const (
	directType4 = 158
	directType6 = 0x1e
)

// opens tells whether a packet may be the first that the backend's node sees.
func (m *message) opens() bool {
	return m.proto != unix.IPPROTO_TCP || !m.later && m.payload[13]&0x12 == 2
}

// base is the length of the header without options.
func (m *message) base() int {
	if m.src.Addr().Is4() {
		return 20
	}
	return 40
}

// hasRoom tells whether the packet can take the option along.
func (m *message) hasRoom() bool { return len(m.header) == m.base() && !m.fragment }

// grow returns the message with other bytes after the base of its header.
func (m *message) grow(rest []byte, next byte) *message {
	out := *m
	base := m.base()
	out.header = slices.Concat(m.header[:base], rest)
	out.options = out.header[base:]
	more := uint16(len(out.header) - len(m.header))
	if base == 20 {
		out.header[0] = 4<<4 | byte(len(out.header)/4)
		binary.BigEndian.PutUint16(out.header[2:], binary.BigEndian.Uint16(m.header[2:])+more)
	} else {
		out.header[6] = next
		binary.BigEndian.PutUint16(out.header[4:], binary.BigEndian.Uint16(m.header[4:])+more)
	}
	return &out
}

// withOption returns the message with the option, which names a service.
func (m *message) withOption(service netip.AddrPort) *message {
	port, addr := binary.BigEndian.AppendUint16(nil, service.Port()), service.Addr().AsSlice()
	if m.base() == 20 {
		return m.grow(slices.Concat([]byte{directType4, 8}, port, addr), 0)
	}
	return m.grow(slices.Concat([]byte{m.proto, 2, directType6, 20}, port, []byte{0, 0}, addr), unix.IPPROTO_DSTOPTS)
}

// direct returns the frontend that the message's option names, if it has the option
// and no other.
func (m *message) direct() (bpf.Frontend, bool) {
	f := bpf.Frontend{Protocol: bpf.Protocol(m.proto), Scope: bpf.ScopeExternal}
	if m.fragment {
		return f, false
	}
	o := m.options
	switch {
	case m.base() == 20 && len(o) == 8 && o[0] == directType4 && o[1] == 8:
		f.Port, f.Addr = binary.BigEndian.Uint16(o[2:]), netip.AddrFrom4([4]byte(o[4:]))
	case m.base() == 40 && len(o) == 24 && o[0] == m.proto && o[2] == directType6 && o[3] == 20:
		f.Port, f.Addr = binary.BigEndian.Uint16(o[4:]), netip.AddrFrom16([16]byte(o[8:]))
	default:
		return f, false
	}
	return f, !f.Addr.Is4In6()
}

// acceptDirect is what happens to a packet that another node has sent to a backend
// here.
func (m *model) acceptDirect(in *message, f bpf.Frontend) outcome {
	service := m.services[f]
	if !service.direct {
		f.Scope = bpf.ScopeCluster
		service = m.services[f]
	}
	back, known := m.conntrack[modelTuple{in.dst, in.src, in.proto}]
	same := known && back.action == "snat" && back.src == netip.AddrPortFrom(f.Addr, f.Port)
	if b, leads := service.at(in.dst); !same && (!leads || !service.direct) {
		return gone("direct return for no service")
	} else if !same && b.Flags == 0 {
		return next("direct, passes by", in)
	}
	m.conntrack[in.tuple()] = modelEntry{action: "dnat", dst: in.dst}
	m.conntrack[modelTuple{in.dst, in.src, in.proto}] = modelEntry{action: "snat", src: netip.AddrPortFrom(f.Addr, f.Port), uplink: true}
	return m.toPod(in.grow(nil, in.proto), "direct, to a pod")
}

// passDirect sends a packet to a backend that answers the client itself.
func (m *model) passDirect(in *message, e modelEntry) outcome {
	why := "direct, to another node"
	e.src = in.src
	out := in
	if in.opens() && in.hasRoom() {
		why += ", with the option"
		out = in.withOption(in.dst)
	}
	result := m.passOn(out, e)
	if result.packet != nil {
		result.why = why
	}
	return result
}

// randomDirect is a packet that another node has sent to a backend here, or to one
// that only may be here. Without such a service it is the other packet.
func randomDirect(rnd *rand.Rand, m *model, other []byte) []byte {
	for f, s := range m.services {
		if !s.direct || len(s.backends) == 0 {
			continue
		}
		b := pick(rnd, s.backends)
		client := netip.AddrPortFrom(ofFamily(rnd, someClients, b.Addr), 1000+uint16(rnd.IntN(6)))
		out := parse(randomFrame(rnd, client, netip.AddrPortFrom(b.Addr, b.Port), byte(f.Protocol)))
		if out != nil && out.ports && out.hasRoom() {
			return out.withOption(netip.AddrPortFrom(f.Addr, f.Port)).bytes()
		}
	}
	return other
}
