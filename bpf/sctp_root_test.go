// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// sctpTo is an SCTP packet with a correct checksum, in an Ethernet frame.
func sctpTo(from string, f bpf.Frontend, length int) []byte {
	packet := make([]byte, length)
	for i := range packet {
		packet[i] = byte(rand.Uint32())
	}
	binary.BigEndian.PutUint16(packet[0:], 4711)
	binary.BigEndian.PutUint16(packet[2:], f.Port)
	binary.LittleEndian.PutUint32(packet[8:], crcOf(packet))
	return frame(netip.MustParseAddr(from), f.Addr, unix.IPPROTO_SCTP, packet)
}

// crcOf is the checksum that an SCTP packet should have.
func crcOf(packet []byte) uint32 {
	clean := append(append(append([]byte{}, packet[:8]...), 0, 0, 0, 0), packet[12:]...)
	return crc32.Checksum(clean, crc32.MakeTable(crc32.Castagnoli))
}

// The checksum is right whatever the length of the packet is, and whatever its ports
// become.
func TestRootSCTP(t *testing.T) {
	l := newLab(t)
	first := uint32(0)
	for family, a := range labAddrs {
		headers := map[string]int{"IPv4": 34, "IPv6": 54}[family]
		for port := uint16(30000); port < 30008; port++ {
			first += 4
			f := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: port, Protocol: bpf.ProtocolSCTP, Scope: bpf.ScopeExternal}
			backend := bpf.Backend{Addr: netip.MustParseAddr(a.pod), Port: uint16(rand.Uint32()), Flags: bpf.BackendLocalPod}
			publish(t, l.datapath, f, first, backend)
			for length := 12; length < 2000; length += 1 + rand.IntN(9) {
				verdict, out := l.run(t, sctpTo(a.outside, f, length))
				packet := out[headers:]
				if verdict != verdictRedirect || binary.BigEndian.Uint16(packet[2:]) != backend.Port {
					t.Fatalf("verdict %d, %x", verdict, out)
				}
				if have, want := binary.LittleEndian.Uint32(packet[8:]), crcOf(packet); have != want {
					t.Fatalf("%s, %d bytes: checksum %08x, expected %08x", family, length, have, want)
				}
			}
		}
	}
}

// Without endpoints the client gets an ICMP error. In fragments ports cannot be
// rewritten.
func TestRootSCTPRefused(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		f := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolSCTP, Scope: bpf.ScopeExternal}
		publish(t, l.datapath, f, 0)
		packet := sctpTo(a.outside, f, 40)
		verdict, out := l.run(t, packet)
		if verdict != verdictRedirect {
			t.Fatalf("verdict %d", verdict)
		}
		header := checkSums(t, out)
		if want := map[string][2]byte{"IPv4": {3, 3}, "IPv6": {1, 4}}[family]; header[0] != want[0] || header[1] != want[1] {
			t.Errorf("ICMP type %d, code %d; expected %v", header[0], header[1], want)
		}
		if family == "IPv6" {
			continue
		}
		publish(t, l.datapath, f, 4, bpf.Backend{Addr: netip.MustParseAddr(a.pod), Port: 80, Flags: bpf.BackendLocalPod})
		binary.BigEndian.PutUint16(packet[14+6:], 0x2000)
		if verdict, _ := l.run(t, parse(packet).bytes()); verdict != verdictDrop {
			t.Errorf("verdict %d on a fragment", verdict)
		}
		wantDrop(t, l.datapath, "fragment")
	}
}

// packetSocket is a raw socket on an interface of the namespace that it is made in.
func packetSocket(index int, protocol uint16) (int, error) {
	network := protocol<<8 | protocol>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(network))
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(int64(3 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fd, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: index})
}

// A checksum that the device is to complete is left to it.
func TestRootSCTPOffload(t *testing.T) {
	l := newLab(t)
	a := labAddrs["IPv4"]
	f := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolSCTP, Scope: bpf.ScopeExternal}
	publish(t, l.datapath, f, 0, bpf.Backend{Addr: netip.MustParseAddr(a.pod), Port: 80, Flags: bpf.BackendLocalPod})
	packet := sctpTo(a.outside, f, 40)
	copy(packet, l.uplink.nearMAC)
	check := packet[34+8 : 34+12]
	// struct virtio_net_hdr: the checksum is needed, from byte 34 on, at byte 8.
	header := []byte{1, 0, 0, 0, 0, 0, 34, 0, 8, 0}
	var receive, send int
	within(t, l.pod, func() (err error) {
		receive, err = packetSocket(l.podWire.far, unix.ETH_P_IP)
		return err
	})
	defer unix.Close(receive)
	within(t, l.outside, func() (err error) {
		if send, err = packetSocket(l.uplink.far, 0); err == nil {
			err = unix.SetsockoptInt(send, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
		}
		return err
	})
	defer unix.Close(send)
	if _, err := unix.Write(send, append(header, packet...)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 200)
	if _, err := unix.Read(receive, got); err != nil {
		t.Fatal(err)
	}
	if port := binary.BigEndian.Uint16(got[34+2:]); port != 80 || !bytes.Equal(got[34+8:34+12], check) {
		t.Errorf("port %d, checksum %x, expected port 80, checksum %x", port, got[34+8:34+12], check)
	}
}
