// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

const (
	xdpDrop = iota + 1
	xdpPass
	xdpTx
	xdpRedirect
)

// BenchmarkRootWire runs the XDP program on packets that are the same again after
// they were rewritten: of a connection from a client to itself, and of new ones to
// a Service that is its own backend.
func BenchmarkRootWire(b *testing.B) {
	for family, a := range labAddrs {
		for name, bb := range map[string]struct {
			port    uint16
			verdict uint32
		}{
			"established": {9, xdpRedirect}, "new": {80, xdpRedirect}, "not a service": {81, xdpPass},
		} {
			b.Run(family+" "+name, func(b *testing.B) {
				l := newLab(b)
				takesXDP(b, l.outside, "eth0")
				l.attachLabUplink(b)
				client, server := netip.MustParseAddr(a.node), netip.MustParseAddr(a.outside)
				within(b, l.node, func() error { return netlink.NeighSet(neighbour(l.uplink.near, server, l.uplink.farMAC)) })
				service := bpf.Frontend{Addr: server, Port: 80, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
				publish(b, l.datapath, service, 0, bpf.Backend{Addr: server, Port: 80})
				src, dst := netip.AddrPortFrom(client, 40000), netip.AddrPortFrom(server, bb.port)
				if bb.port == 9 {
					if err := l.datapath.Track(src, dst, bpf.ProtocolTCP); err != nil {
						b.Fatal(err)
					}
				}
				within(b, l.node, func() error {
					return measure(b, l.datapath, segment(src, dst), bb.verdict, bb.port == 80)
				})
			})
		}
	}
}

// segment is a TCP packet that may be forwarded 254 times.
func segment(src, dst netip.AddrPort) []byte {
	m := parse(frame(src.Addr(), dst.Addr(), unix.IPPROTO_TCP, make([]byte, 40)))
	m.src, m.dst, m.ttl, m.payload[12], m.ports = src, dst, 255, 5<<4, true
	return m.bytes()
}

// measure reports how long the kernel runs the program, without the call: the median
// of all rounds.
func measure(b *testing.B, d *bpf.Datapath, packet []byte, want uint32, forget bool) error {
	const repeat = 250
	var rounds []float64
	for b.Loop() {
		verdict, took, err := d.Wire().Benchmark(packet, repeat, nil)
		if err != nil {
			return err
		}
		if verdict != want {
			b.Fatalf("verdict %d, expected %d", verdict, want)
		}
		rounds = append(rounds, float64(took.Nanoseconds()))
		if forget {
			// Or the next round would go through the same connections.
			if err := d.Forget(); err != nil {
				return err
			}
		}
	}
	slices.Sort(rounds)
	b.ReportMetric(rounds[len(rounds)/2], "ns/packet")
	return nil
}
