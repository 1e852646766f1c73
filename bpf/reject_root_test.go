// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// wantDrop waits until a packet was dropped for a reason.
func wantDrop(t *testing.T, d *bpf.Datapath, want string) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, func() error {
		drops, err := d.Drops()
		if err != nil {
			return err
		}
		for reason, n := range drops {
			if reason.String() == want && n > 0 {
				return nil
			}
		}
		return fmt.Errorf("drops are %v, expected %s", drops, want)
	})
}

// Other hosts learn at once that a Service has no endpoints, unless they are
// only elsewhere.
func TestRootReject(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP} {
			t.Run(family+" "+kind, func(t *testing.T) {
				f := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: protocol, Scope: bpf.ScopeExternal}
				publish(t, l.datapath, f, 0)
				begin := time.Now()
				if got := askFrom(t, l.outside, kind, netip.AddrPortFrom(f.Addr, f.Port)); !strings.Contains(got, "connection refused") {
					t.Errorf("got %q after %v, expected that it is refused", got, time.Since(begin))
				}
			})
		}
	}
	t.Run("silent", func(t *testing.T) {
		f := bpf.Frontend{Addr: netip.MustParseAddr(labAddrs["IPv4"].node), Port: 30002, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
		if err := l.datapath.SetFrontend(f, bpf.Range{Generation: 1, Silent: true}); err != nil {
			t.Fatal(err)
		}
		if got := askFrom(t, l.outside, "udp", netip.AddrPortFrom(f.Addr, f.Port)); strings.Contains(got, "refused") {
			t.Errorf("got %q, expected nothing", got)
		}
		wantDrop(t, l.datapath, "no_endpoint")
	})
}

// Only the addresses in the set of a frontend may use it from other hosts.
func TestRootSourceRanges(t *testing.T) {
	l := newLab(t)
	first := uint32(0)
	for family, a := range labAddrs {
		server := serveIn(t, l.pod, a.pod, "pod")
		outside := netip.MustParseAddr(a.outside)
		for name, tt := range map[string]struct {
			ranges []netip.Prefix
			served bool
		}{
			"its address":                         {[]netip.Prefix{netip.PrefixFrom(outside, outside.BitLen())}, true},
			"its network":                         {[]netip.Prefix{netip.PrefixFrom(outside, outside.BitLen()-8)}, true},
			"others":                              {[]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:9::/48")}, false},
			"all of the other family, and nobody": {[]netip.Prefix{netip.MustParsePrefix(map[string]string{"IPv4": "::/0", "IPv6": "0.0.0.0/0"}[family])}, false},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				first += 4
				set := first
				f := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: uint16(30000 + first), Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
				publish(t, l.datapath, f, first, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: bpf.BackendLocalPod})
				if err := l.datapath.SetSources(set, tt.ranges); err != nil {
					t.Fatal(err)
				}
				if err := l.datapath.SetFrontend(f, bpf.Range{First: first, Count: 1, Generation: 2, Sources: set}); err != nil {
					t.Fatal(err)
				}
				if !tt.served {
					reply, packet := l.run(t, synTo(a.outside, f))
					if reply != verdictDrop {
						t.Errorf("verdict %d: %x", reply, packet)
					}
					wantDrop(t, l.datapath, "source_range")
				} else if got, want := askFrom(t, l.outside, "tcp", netip.AddrPortFrom(f.Addr, f.Port)), "pod from "; !strings.HasPrefix(got, want) {
					t.Errorf("got %q, expected %q", got, want)
				}
				have, err := l.datapath.Sources()
				if err != nil || len(have[set]) != len(tt.ranges) {
					t.Errorf("set %d reads %v, %v", set, have[set], err)
				}
				if err := l.datapath.DeleteSources(set, have[set]); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A service address answers echo requests of pods, of the node and of other
// hosts.
func TestRootEcho(t *testing.T) {
	l := newLab(t)
	services := map[string]string{"IPv4": "10.96.0.7", "IPv6": "fd00:96::7"}
	for family, a := range labAddrs {
		addr := netip.MustParseAddr(services[family])
		for ns, via := range map[netns.NsHandle]string{l.outside: a.node, l.node: a.outside} {
			within(t, ns, func() error {
				return netlink.RouteAdd(&netlink.Route{Dst: ipNet(addr, addr.BitLen()), Gw: net.ParseIP(via)})
			})
		}
		for _, scope := range []bpf.Scope{bpf.ScopeCluster, bpf.ScopeExternal} {
			if err := l.datapath.SetFrontend(bpf.Frontend{Addr: addr, Scope: scope}, bpf.Range{Generation: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for from, ns := range map[string]netns.NsHandle{"pod": l.pod, "node": l.node, "outside": l.outside} {
			t.Run(family+" "+from, func(t *testing.T) {
				within(t, ns, func() error { return ping(addr) })
			})
		}
	}
}

// ping sends an echo request and reads the reply.
func ping(to netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	conn, err := net.Dial(network, to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	packet := append([]byte{request, 0, 0, 0, 0x47, 0x11, 0, 1}, make([]byte, 1000)...)
	// The kernel completes the checksum of version 6 itself.
	binary.BigEndian.PutUint16(packet[2:], ^sum(0, packet))
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	for buf := make([]byte, 2000); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("ping %s: %w", to, err)
		}
		// The header of IPv4 comes with it.
		if at := n - len(packet); at >= 0 && buf[at] == reply && buf[at+4] == 0x47 && buf[at+5] == 0x11 {
			return nil
		}
	}
}

const (
	verdictDrop     = 2
	verdictRedirect = 7
)

// run has uplink_in look at a packet.
func (l *lab) run(t *testing.T, packet []byte) (verdict uint32, out []byte) {
	t.Helper()
	verdict, out, err := l.datapath.UplinkIn().Test(packet)
	if err != nil {
		t.Fatal(err)
	}
	return verdict, out
}

// synTo is a TCP segment that opens a connection, with data, in an Ethernet
// frame.
func synTo(from string, f bpf.Frontend) []byte {
	tcp := make([]byte, 27)
	binary.BigEndian.PutUint16(tcp[0:], 4711)
	binary.BigEndian.PutUint16(tcp[2:], f.Port)
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	tcp[12], tcp[13] = 5<<4, 2
	return frame(netip.MustParseAddr(from), f.Addr, unix.IPPROTO_TCP, tcp)
}

// frame puts a transport header with data into IP and Ethernet.
func frame(from, to netip.Addr, proto byte, payload []byte) []byte {
	ether := append([]byte{2, 0, 0, 0, 0, 1}, 2, 0, 0, 0, 0, 2)
	if from.Is6() {
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 6<<4, proto, 3
		binary.BigEndian.PutUint16(ip[4:], uint16(len(payload)))
		copy(ip[8:], from.AsSlice())
		copy(ip[24:], to.AsSlice())
		return append(append(append(ether, 0x86, 0xdd), ip...), payload...)
	}
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 4<<4|5, 3, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(payload)))
	copy(ip[12:], from.AsSlice())
	copy(ip[16:], to.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip))
	return append(append(append(ether, 8, 0), ip...), payload...)
}

// sum is the sum of the Internet checksum; RFC 1071.
func sum(start uint32, data []byte) uint16 {
	for i, b := range data {
		if i%2 == 0 {
			start += uint32(b) << 8
		} else {
			start += uint32(b)
		}
	}
	for start>>16 != 0 {
		start = start&0xffff + start>>16
	}
	return uint16(start)
}

// checkSums fails the test when a checksum of the packet is wrong. It returns
// the transport header and what follows.
func checkSums(t *testing.T, packet []byte) []byte {
	t.Helper()
	ip := packet[14:]
	pseudo, payload, proto := ip[8:40], ip[40:], ip[6]
	if ip[0]>>4 == 4 {
		if sum(0, ip[:20]) != 0xffff {
			t.Errorf("the checksum of the IP header is wrong: %x", ip[:20])
		}
		pseudo, payload, proto = ip[12:20], ip[20:], ip[9]
		if int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
			t.Errorf("the IP header has length %d, the packet %d", binary.BigEndian.Uint16(ip[2:]), len(ip))
		}
		if proto == unix.IPPROTO_ICMP {
			pseudo, proto = nil, 0
		}
	}
	start := uint32(sum(0, pseudo)) + uint32(proto)
	if proto != 0 {
		start += uint32(len(payload))
	}
	if sum(start, payload) != 0xffff {
		t.Errorf("the checksum is wrong: %x", payload)
	}
	return payload
}

// TestRootRejectPackets looks at answers to packets whose checksums are
// complete, as those from a network are.
func TestRootRejectPackets(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		tcp := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
		udp := bpf.Frontend{Addr: tcp.Addr, Port: 30001, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
		publish(t, l.datapath, tcp, 0)
		publish(t, l.datapath, udp, 0)
		t.Run(family+" tcp", func(t *testing.T) {
			verdict, out := l.run(t, synTo(a.outside, tcp))
			if verdict != verdictRedirect {
				t.Fatalf("verdict %d", verdict)
			}
			header := checkSums(t, out)
			if ack := binary.BigEndian.Uint32(header[8:]); header[13] != 0x14 || ack != 1008 || len(header) != 20 {
				t.Errorf("flags %#x, ack %d, %d bytes; expected RST and ACK of 1008", header[13], ack, len(header))
			}
		})
		t.Run(family+" udp", func(t *testing.T) {
			datagram := []byte{0x12, 0x67, 0x75, 0x31, 0, 11, 0, 0, 'a', 'b', 'c'}
			verdict, out := l.run(t, frame(netip.MustParseAddr(a.outside), udp.Addr, unix.IPPROTO_UDP, datagram))
			if verdict != verdictRedirect {
				t.Fatalf("verdict %d", verdict)
			}
			header := checkSums(t, out)
			if want := map[string][2]byte{"IPv4": {3, 3}, "IPv6": {1, 4}}[family]; header[0] != want[0] || header[1] != want[1] {
				t.Errorf("ICMP type %d, code %d; expected %v", header[0], header[1], want)
			}
			if quoted := header[len(header)-8:]; string(quoted) != string(datagram[:8]) {
				t.Errorf("quotes %x, expected %x", quoted, datagram[:8])
			}
		})
	}
}
