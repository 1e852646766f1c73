// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// greet tells all hosts on a link that this host has an address now: an ARP
// announcement (RFC 5227, 3), or an unsolicited neighbour advertisement (RFC
// 4861, 7.2.6).
func greet(link net.Interface, addr netip.Addr) error {
	if len(link.HardwareAddr) != 6 {
		return nil // Without Ethernet there are no neighbours to tell.
	}
	frame, typ := advertisement(link.HardwareAddr, addr), uint16(etherIPv6)
	if addr.Is4() {
		frame, typ = announcement(link.HardwareAddr, addr), etherARP
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, link.Name, err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: swap(typ), Halen: 6}
	copy(to.Addr[:], frame[:6])
	if err := unix.Sendto(fd, frame, 0, to); err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, link.Name, err)
	}
	return nil
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }

func ethernet(to, from net.HardwareAddr, typ uint16) []byte {
	frame := append(append([]byte{}, to...), from...)
	return binary.BigEndian.AppendUint16(frame, typ)
}

// announcement is an ARP request for one's own address.
func announcement(mac net.HardwareAddr, addr netip.Addr) []byte {
	frame := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, lengths, request
	frame = append(append(frame, mac...), addr.AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), addr.AsSlice()...)
}

// advertisement is an ICMPv6 neighbour advertisement that overrides what others
// know, to all nodes.
func advertisement(mac net.HardwareAddr, addr netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::1")
	icmp := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // type, code, checksum, override
	icmp = append(icmp, addr.AsSlice()...)
	icmp = append(append(icmp, 2, 1), mac...) // target link-layer address
	binary.BigEndian.PutUint16(icmp[2:], checksum(addr, all, icmp))
	frame := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, etherIPv6)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255)
	frame = append(append(frame, addr.AsSlice()...), all.AsSlice()...)
	return append(frame, icmp...)
}

// checksum is that of RFC 4443, 2.3, over the pseudo header and the message.
func checksum(from, to netip.Addr, message []byte) uint16 {
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(message)))
	pseudo = append(append(pseudo, 0, 0, 0, unix.IPPROTO_ICMPV6), message...)
	sum := uint32(0)
	for i := 0; i+1 < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
