// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

// ofFamily picks an address of the family of another.
func ofFamily(rnd *rand.Rand, from []netip.Addr, like netip.Addr) netip.Addr {
	for {
		if addr := pick(rnd, from); addr.Is4() == like.Is4() {
			return addr
		}
	}
}

// randomPacket is mostly one that means something to the tables; some are cut
// off, or have a byte that is anything.
func randomPacket(rnd *rand.Rand, m *model, fromPod bool) []byte {
	src, dst := randomEnds(rnd, m, fromPod)
	proto := pick(rnd, []byte{unix.IPPROTO_TCP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, 47})
	packet := randomFrame(rnd, src, dst, proto)
	if !fromPod && rnd.IntN(20) == 0 {
		packet = randomDirect(rnd, m, packet)
	}
	if rnd.IntN(15) == 0 {
		packet = errorPacket(rnd, m, src.Addr(), packet)
	}
	if rnd.IntN(20) == 0 {
		packet = laterFragment(rnd, m, fromPod, packet)
	}
	switch rnd.IntN(20) {
	case 0:
		// The kernel runs no program on a packet without the header of IP.
		least := 34
		if packet[14]>>4 == 6 {
			least = 54
		}
		packet = packet[:least+rnd.IntN(len(packet)-least)]
	case 1:
		at := 14 + rnd.IntN(len(packet)-14)
		before := packet[at]
		packet[at] = byte(rnd.Uint32())
		if m := parse(packet); m != nil && m.proto == unix.IPPROTO_SCTP && m.fragment {
			packet[at] = before // The model has no fragments of SCTP.
		}
	case 2:
		packet = append(packet, make([]byte, rnd.IntN(12))...)
	}
	return packet
}

// randomEnds are those of a new connection, or of one that is known, in either
// direction. Those of a pod mostly begin there.
func randomEnds(rnd *rand.Rand, m *model, fromPod bool) (src, dst netip.AddrPort) {
	own := rnd.IntN(10) > 0
	if rnd.IntN(3) == 0 {
		for tuple := range m.conntrack {
			if !fromPod || !own || slices.Contains(ownPods, tuple.src.Addr()) {
				return tuple.src, tuple.dst
			}
		}
	}
	all := slices.Concat(someClients, someClients, somePods, someRemotes, ownPods)
	from := pick(rnd, all)
	if fromPod && own {
		from = pick(rnd, ownPods)
	}
	to := ofFamily(rnd, slices.Concat(someServices, someServices, all), from)
	return netip.AddrPortFrom(from, 1000+uint16(rnd.IntN(6))), netip.AddrPortFrom(to, pick(rnd, append(somePorts, 8080, 9)))
}

// errorPacket is an ICMP error about a packet of a known connection, if there is any.
func errorPacket(rnd *rand.Rand, m *model, from netip.Addr, other []byte) []byte {
	for way := range m.conntrack {
		if way.src.Addr().Is4() != from.Is4() {
			continue
		}
		proto, to := byte(unix.IPPROTO_ICMP), way.dst.Addr()
		if from.Is6() {
			proto = unix.IPPROTO_ICMPV6
		}
		if rnd.IntN(20) == 0 {
			to = ofFamily(rnd, someServices, from)
		}
		about := randomFrame(rnd, way.dst, way.src, way.proto)[14:]
		payload := append([]byte{pick(rnd, errorTypes[proto]), byte(rnd.IntN(5)), 0, 0, 0, 0, 0, 0}, about[:len(about)-rnd.IntN(20)]...)
		packet := frame(from, to, proto, payload)
		return parse(packet).bytes()
	}
	return other
}

// laterFragment is one of a datagram whose first was translated, if there is any.
func laterFragment(rnd *rand.Rand, m *model, fromPod bool, other []byte) []byte {
	for key := range m.fragments {
		if fromPod && !slices.Contains(ownPods, key.src) {
			continue
		}
		rest := make([]byte, 8+rnd.IntN(64))
		if key.src.Is6() {
			rest = append([]byte{pick(rnd, []byte{unix.IPPROTO_UDP, unix.IPPROTO_DSTOPTS}), 0, 0, 0x10, 0, 0, 0, 0}, rest...)
			binary.BigEndian.PutUint32(rest[4:], key.id)
			return frame(key.src, key.dst, unix.IPPROTO_FRAGMENT, rest)
		}
		packet := frame(key.src, key.dst, key.proto, rest)
		binary.BigEndian.PutUint16(packet[14+4:], uint16(key.id))
		binary.BigEndian.PutUint16(packet[14+6:], 0x0010)
		return parse(packet).bytes()
	}
	return other
}

// randomFrame is a packet with valid checksums, sometimes with options or
// extension headers, or as a fragment.
func randomFrame(rnd *rand.Rand, src, dst netip.AddrPort, proto byte) []byte {
	m := &message{
		ether: append([]byte{2, 0, 0, 0, 0, 1}, 2, 0, 0, 0, 0, 2, 8, 0), src: src, dst: dst, proto: proto, ttl: byte(1 + rnd.IntN(4)*20),
		ports: proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP || proto == unix.IPPROTO_SCTP, zeroCheck: proto == unix.IPPROTO_UDP && rnd.IntN(4) == 0,
	}
	m.payload = randomPayload(rnd, proto)
	if src.Addr().Is4() {
		m.options = bytes.Repeat([]byte{1}, max(0, rnd.IntN(12)-10)*4)
		m.header = append(make([]byte, 20), m.options...)
		m.header[0], m.header[9] = 4<<4|byte(len(m.header)/4), proto
		binary.BigEndian.PutUint16(m.header[2:], uint16(len(m.header)+len(m.payload)))
		binary.BigEndian.PutUint16(m.header[4:], uint16(rnd.IntN(8)))
		if m.fragment = rnd.IntN(8) == 0 && proto != unix.IPPROTO_SCTP; m.fragment {
			offset := pick(rnd, []uint16{0x2000, 0x2000, 0x2010, 0x0010})
			m.later = offset&0x1fff != 0
			binary.BigEndian.PutUint16(m.header[6:], offset)
		}
		if m.ports && len(m.options) == 0 && !m.fragment && rnd.IntN(10) == 0 {
			m = m.withOption(randomNamed(rnd, dst))
		}
		return m.bytes()
	}
	m.ether[12], m.ether[13] = 0x86, 0xdd
	m.header = make([]byte, 40)
	m.header[0], m.header[6] = 6<<4, proto
	m.randomExtensions(rnd)
	binary.BigEndian.PutUint16(m.header[4:], uint16(len(m.header)-40+len(m.payload)))
	if m.ports && len(m.header) == 40 && rnd.IntN(10) == 0 {
		m = m.withOption(randomNamed(rnd, dst))
	}
	return m.bytes()
}

// randomNamed is what another node says that a client came by.
func randomNamed(rnd *rand.Rand, like netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ofFamily(rnd, someServices, like.Addr()), pick(rnd, somePorts))
}

// randomExtensions puts extension headers after the header of IPv6.
func (m *message) randomExtensions(rnd *rand.Rand) {
	for last := 6; rnd.IntN(4) == 0 && !m.later; {
		kind := pick(rnd, []byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_FRAGMENT})
		m.header[last] = kind
		last = len(m.header)
		ext := []byte{m.proto, 0, 0, 0, 0, 0, 0, 0}
		if kind == unix.IPPROTO_FRAGMENT && m.proto != unix.IPPROTO_SCTP {
			offset := pick(rnd, []uint16{0x0001, 0x0001, 0x0010, 0x0011, 0x0000})
			m.fragment, m.later = offset != 0, offset > 1
			binary.BigEndian.PutUint16(ext[2:], offset)
			ext[7] = byte(rnd.IntN(8))
		}
		m.header = append(m.header, ext...)
	}
}

func randomPayload(rnd *rand.Rand, proto byte) []byte {
	payload := make([]byte, 20+rnd.IntN(40))
	for i := range payload {
		payload[i] = byte(rnd.Uint32())
	}
	switch proto {
	case unix.IPPROTO_TCP:
		payload[12], payload[13] = 5<<4, pick(rnd, []byte{2, 0x10, 0x18, 0x11, 4, 0x14})
	case unix.IPPROTO_UDP:
		binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		payload[0], payload[1] = pick(rnd, []byte{8, 0, 128, 129, 3}), byte(rnd.IntN(8)/7)
	}
	return payload
}

// samePacket compares two packets. When the checksums of the one that they were
// made of were wrong, theirs are not compared.
func samePacket(have, want []byte, broken bool) bool {
	if broken {
		return bytes.Equal(withoutChecks(have), withoutChecks(want))
	}
	// There are two ways to write a checksum of zero.
	return bytes.Equal(have, want) || bytes.Equal(withoutChecks(have), withoutChecks(want)) && bytes.Equal(oneZero(have), oneZero(want))
}

// checks returns the places of the checksums in a packet.
func checks(packet []byte) []int {
	m := parse(packet)
	if m == nil {
		return nil
	}
	var out []int
	if m.src.Addr().Is4() {
		out = append(out, 14+10)
	}
	if at, has := checkAt[m.proto]; has && len(m.payload) >= at+2 {
		out = append(out, 14+len(m.header)+at)
	}
	return out
}

func withoutChecks(packet []byte) []byte {
	out := slices.Clone(packet)
	for _, at := range checks(packet) {
		out[at], out[at+1] = 0, 0
	}
	return out
}

func oneZero(packet []byte) []byte {
	out := slices.Clone(packet)
	for _, at := range checks(packet) {
		if out[at] == 0xff && out[at+1] == 0xff {
			out[at], out[at+1] = 0, 0
		}
	}
	return out
}
