// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// errorTypes are those of ICMP errors that quote a packet.
var errorTypes = map[byte][]byte{unix.IPPROTO_ICMP: {3, 11, 12}, unix.IPPROTO_ICMPV6: {1, 2, 3, 4}}

// quoteAt is where an ICMP error quotes a packet.
const quoteAt = 8

// quote is the connection of the packet that an error is about, and where that has
// its ports; false when this is no error.
func (in *message) quote() (about modelTuple, ports int, ok bool) {
	if in.fragment || in.src.Addr().Is4() != (in.proto == unix.IPPROTO_ICMP) || len(in.payload) < quoteAt ||
		!slices.Contains(errorTypes[in.proto], in.payload[0]) {
		return about, 0, false
	}
	q, data := &message{}, slices.Concat(in.payload, in.trailer)[quoteAt:]
	length := q.header6
	if in.proto == unix.IPPROTO_ICMP {
		length = q.header4
	}
	if ports = quoteAt + length(data); ports == quoteAt || q.later || ports+4 > len(in.payload) ||
		!slices.Contains([]byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}, q.proto) || q.src.Addr() != in.dst.Addr() {
		return about, 0, false
	}
	return modelTuple{
		netip.AddrPortFrom(q.src.Addr(), binary.BigEndian.Uint16(in.payload[ports:])),
		netip.AddrPortFrom(q.dst.Addr(), binary.BigEndian.Uint16(in.payload[ports+2:])),
		q.proto,
	}, ports, true
}

// translateError translates an error about a packet of a connection that has an
// entry of one of the actions.
func (m *model) translateError(in *message, actions ...string) (*message, modelEntry, bool) {
	about, ports, ok := in.quote()
	e, known := m.conntrack[modelTuple{about.dst, about.src, about.proto}]
	if !ok || !known || !slices.Contains(actions, e.action) {
		return nil, e, false
	}
	out := in.to(in.dst)
	out.payload = slices.Clone(in.payload)
	if e.action != "snat" {
		out.dst = netip.AddrPortFrom(e.dst.Addr(), 0)
		out.requote(12, 8, ports, e.dst)
	}
	if e.action != "dnat" {
		out.src = netip.AddrPortFrom(e.src.Addr(), 0)
		out.requote(16, 24, ports+2, e.src)
	}
	return out, e, true
}

// requote writes an address and a port into the quoted packet. The address is at
// one place of its header with IPv4, and at another with IPv6.
func (out *message) requote(at4, at6, port int, to netip.AddrPort) {
	header := out.payload[quoteAt:]
	binary.BigEndian.PutUint16(out.payload[port:], to.Port())
	if to.Addr().Is6() {
		copy(header[at6:], to.Addr().AsSlice())
		return
	}
	old := sum(0, header[at4:at4+4])
	copy(header[at4:], to.Addr().AsSlice())
	check := sum(uint32(^binary.BigEndian.Uint16(header[10:]))+uint32(^old)+uint32(sum(0, header[at4:at4+4])), nil)
	binary.BigEndian.PutUint16(header[10:], ^check)
}
