// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// BenchmarkRootPacket is what programs cost for a packet of TCP, and how many
// instructions they have.
func BenchmarkRootPacket(b *testing.B) {
	d := openDatapath(b, bpffs(b))
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	client, pod, other := netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("10.244.0.6"), netip.MustParseAddr("192.0.2.2")
	// Packets that are only tried come in by the loopback interface.
	for i, addr := range []netip.Addr{client, pod} {
		if err := d.PutEndpoint(bpf.Endpoint{Addrs: []netip.Addr{addr}, Ifindex: 1 + i, PodMAC: mac, HostMAC: mac}); err != nil {
			b.Fatal(err)
		}
	}
	// A backend at the Service's own address: what is rewritten stays the same.
	node := netip.MustParseAddr("192.0.2.1")
	publish(b, d, bpf.Frontend{Addr: node, Port: 443, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}, 0,
		bpf.Backend{Addr: node, Port: 443, Flags: bpf.BackendLocalHost})
	tcp := make([]byte, 120)
	binary.BigEndian.PutUint16(tcp[0:], 40000)
	binary.BigEndian.PutUint16(tcp[2:], 443)
	tcp[12], tcp[13] = 5<<4, 0x10
	for name, bb := range map[string]struct {
		program  *ebpf.Program
		src, dst netip.Addr
	}{
		"uplink_in, no Service":        {d.UplinkIn(), other, netip.MustParseAddr("192.0.2.9")},
		"uplink_in, to a Service":      {d.UplinkIn(), other, node},
		"pod_from, to another pod":     {d.PodFrom(), client, pod},
		"pod_from, to another network": {d.PodFrom(), client, other},
		"pod_to":                       {d.PodTo(), other, pod},
	} {
		b.Run(name, func(b *testing.B) {
			info, err := bb.program.Info()
			if err != nil {
				b.Fatal(err)
			}
			instructions, _ := info.Instructions()
			verified, _ := info.VerifiedInstructions()
			_, each, err := bb.program.Benchmark(frame(bb.src, bb.dst, unix.IPPROTO_TCP, tcp), 5_000_000, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
			b.ReportMetric(float64(len(instructions)), "instructions")
			b.ReportMetric(float64(verified), "verified")
			b.ReportMetric(0, "ns/op")
		})
	}
}
