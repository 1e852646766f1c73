// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// message is a packet, taken apart.
type message struct {
	raw      []byte
	ether    []byte
	src, dst netip.AddrPort // without ports where it has none
	proto    byte           // after extension headers
	ttl      byte
	// fragment is one of several, later one that is not the first; id says of
	// which datagram.
	fragment, later bool
	id              uint32
	ports           bool
	// header is the one of IP, with options or extension headers, which are
	// from options on.
	header, options []byte
	payload         []byte
	// trailer pads the packet.
	trailer []byte
	// zeroCheck has no checksum, as UDP may.
	zeroCheck bool
}

func (m *message) tuple() modelTuple { return modelTuple{m.src, m.dst, m.proto} }

// to returns the message with another destination.
func (m *message) to(dst netip.AddrPort) *message {
	out := *m
	out.dst = dst
	out.ether = slices.Clone(m.ether)
	return &out
}

// answer is a message back to where this one came from, without options.
func (m *message) answer(proto byte, payload []byte) *message {
	ether := slices.Concat(m.ether[6:12], m.ether[0:6], m.ether[12:])
	raw := frame(m.dst.Addr(), m.src.Addr(), proto, payload)
	header := raw[14 : len(raw)-len(payload)]
	return &message{
		ether: ether, src: netip.AddrPortFrom(m.dst.Addr(), 0), dst: netip.AddrPortFrom(m.src.Addr(), 0),
		proto: proto, ttl: 64, header: header, payload: payload,
	}
}

// parse takes a packet apart; nil when it is no IP packet, or one that makes no
// sense.
func parse(raw []byte) *message {
	if len(raw) < 14 {
		return nil
	}
	m := &message{raw: raw, ether: slices.Clone(raw[:14])}
	switch binary.BigEndian.Uint16(raw[12:]) {
	case unix.ETH_P_IP:
		return m.parse4(raw[14:])
	case unix.ETH_P_IPV6:
		return m.parse6(raw[14:])
	}
	return nil
}

// header4 reads the header of IPv4. It returns where it ends, 0 for one that makes
// no sense.
func (m *message) header4(ip []byte) (at int) {
	if len(ip) < 20 || ip[0]>>4 != 4 || ip[0]&15 < 5 {
		return 0
	}
	m.src, m.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:])), 0), netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:])), 0)
	m.ttl, m.proto = ip[8], ip[9]
	offset := binary.BigEndian.Uint16(ip[6:])
	m.fragment, m.later, m.id = offset&0x3fff != 0, offset&0x1fff != 0, uint32(binary.BigEndian.Uint16(ip[4:]))
	return int(ip[0]&15) * 4
}

func (m *message) parse4(ip []byte) *message {
	at := m.header4(ip)
	if at == 0 {
		return nil
	}
	end := int(binary.BigEndian.Uint16(ip[2:]))
	if end == 0 {
		end = len(ip)
	}
	if end < at || end > len(ip) {
		return nil
	}
	m.header, m.options, m.payload, m.trailer = ip[:at], ip[20:at], ip[at:end], ip[end:]
	m.readPorts()
	return m
}

// header6 is header4 for IPv6, with extension headers.
func (m *message) header6(ip []byte) (at int) {
	if len(ip) < 40 || ip[0]>>4 != 6 {
		return 0
	}
	src, dst := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	if src.Is4In6() || dst.Is4In6() {
		return 0
	}
	m.src, m.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	m.ttl, m.proto, at = ip[7], ip[6], 40
	for range 6 {
		fragment := m.proto == unix.IPPROTO_FRAGMENT
		if m.later || !fragment && m.proto != unix.IPPROTO_HOPOPTS && m.proto != unix.IPPROTO_ROUTING && m.proto != unix.IPPROTO_DSTOPTS {
			break
		}
		if len(ip) < at+8 {
			return 0
		}
		m.proto = ip[at]
		if fragment {
			offset := binary.BigEndian.Uint16(ip[at+2:])
			m.fragment, m.later, m.id = offset&0xfff9 != 0, offset&0xfff8 != 0, binary.BigEndian.Uint32(ip[at+4:])
			at += 8
		} else {
			at += (int(ip[at+1]) + 1) * 8
		}
	}
	return at
}

func (m *message) parse6(ip []byte) *message {
	at, end := m.header6(ip), len(ip)
	if at == 0 {
		return nil
	}
	if length := int(binary.BigEndian.Uint16(ip[4:])); length != 0 {
		end = 40 + length
	}
	if end > len(ip) {
		return nil
	}
	at = min(at, end)
	m.header, m.options, m.payload, m.trailer = ip[:at], ip[40:at], ip[at:end], ip[end:]
	m.readPorts()
	return m
}

// l4Header is how long the header is of protocols that have ports.
var l4Header = map[byte]int{unix.IPPROTO_TCP: 20, unix.IPPROTO_UDP: 8, unix.IPPROTO_SCTP: 12}

func (m *message) readPorts() {
	if need := l4Header[m.proto]; need == 0 || m.later || len(m.payload) < need {
		return
	}
	m.ports = true
	m.src = netip.AddrPortFrom(m.src.Addr(), binary.BigEndian.Uint16(m.payload))
	m.dst = netip.AddrPortFrom(m.dst.Addr(), binary.BigEndian.Uint16(m.payload[2:]))
	m.zeroCheck = m.proto == unix.IPPROTO_UDP && binary.BigEndian.Uint16(m.payload[6:]) == 0
}

// bytes puts the message together, with all checksums made anew.
func (m *message) bytes() []byte {
	header, payload := slices.Clone(m.header), slices.Clone(m.payload)
	if m.src.Addr().Is4() {
		header[8] = m.ttl
		copy(header[12:], m.src.Addr().AsSlice())
		copy(header[16:], m.dst.Addr().AsSlice())
		header[10], header[11] = 0, 0
		binary.BigEndian.PutUint16(header[10:], ^sum(0, header))
	} else {
		header[7] = m.ttl
		copy(header[8:], m.src.Addr().AsSlice())
		copy(header[24:], m.dst.Addr().AsSlice())
	}
	if m.ports && !m.later {
		binary.BigEndian.PutUint16(payload, m.src.Port())
		binary.BigEndian.PutUint16(payload[2:], m.dst.Port())
	}
	switch {
	case m.proto == unix.IPPROTO_SCTP && m.ports && !m.later:
		m.checkSCTP(payload)
	case m.fragment:
		m.checkFirst(payload)
	default:
		m.check(payload)
	}
	return slices.Concat(m.ether, header, payload, m.trailer)
}

// checkAt is where protocols have their checksum.
var checkAt = map[byte]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6, unix.IPPROTO_ICMP: 2, unix.IPPROTO_ICMPV6: 2}

// check writes the checksum of what follows the IP header.
func (m *message) check(payload []byte) {
	at, has := checkAt[m.proto]
	if !has || len(payload) < at+2 || m.zeroCheck {
		return
	}
	start := uint32(0)
	if m.proto != unix.IPPROTO_ICMP {
		start = uint32(sum(0, slices.Concat(m.src.Addr().AsSlice(), m.dst.Addr().AsSlice()))) + uint32(m.proto) + uint32(len(payload))
	}
	payload[at], payload[at+1] = 0, 0
	value := ^sum(start, payload)
	if value == 0 && m.proto == unix.IPPROTO_UDP {
		value = 0xffff
	}
	binary.BigEndian.PutUint16(payload[at:], value)
}

// checkSCTP writes the CRC32c of the packet. One that was wrong remains as wrong.
func (m *message) checkSCTP(payload []byte) {
	crc := func(data []byte) uint32 {
		data = slices.Clone(data)
		copy(data[8:], make([]byte, 4))
		return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	}
	check := crc(payload)
	if m.raw != nil {
		old := parse(m.raw).payload
		check ^= crc(old) ^ binary.LittleEndian.Uint32(old[8:])
	}
	binary.LittleEndian.PutUint32(payload[8:], check)
}

// checkFirst changes the checksum of a first fragment, which is the whole
// datagram's, by what has changed since it came; RFC 1624.
func (m *message) checkFirst(payload []byte) {
	at, has := checkAt[m.proto]
	if !has || !m.ports || m.later || m.zeroCheck || m.raw == nil {
		return
	}
	old := parse(m.raw)
	ends := func(m *message) uint16 {
		part := slices.Concat(m.src.Addr().AsSlice(), m.dst.Addr().AsSlice())
		return sum(uint32(m.src.Port())+uint32(m.dst.Port()), part)
	}
	value := sum(uint32(^binary.BigEndian.Uint16(payload[at:]))+uint32(^ends(old))+uint32(ends(m)), nil)
	binary.BigEndian.PutUint16(payload[at:], ^value)
}
