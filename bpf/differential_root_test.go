// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/bpf"
)

// Addresses of packets and tables. Each list has both families in turn.
var (
	someClients  = addrs("192.0.2.2 2001:db8::2 192.0.2.3 2001:db8::3 203.0.113.5 2001:db8:9::5")
	someServices = addrs("198.51.100.1 2001:db8:1::1 198.51.100.2 2001:db8:1::2 192.0.2.1 2001:db8::1")
	somePods     = addrs("10.244.0.6 fd00:244::6 10.244.0.7 fd00:244::7")
	someRemotes  = addrs("10.244.9.5 fd00:244:9::5 10.244.9.6 fd00:244:9::6 10.99.0.1 fd00:99::1")
	ownPods      = addrs(labAddrs["IPv4"].pod + " " + labAddrs["IPv6"].pod)
	somePorts    = []uint16{80, 443, 30001}
)

func addrs(text string) (out []netip.Addr) {
	for _, one := range bytes.Fields([]byte(text)) {
		out = append(out, netip.MustParseAddr(string(one)))
	}
	return out
}

// newModelLab is a node that only has an uplink, with routes to the pods of other
// nodes. Nothing leaves it: programs are run on packets that the test makes.
func newModelLab(t *testing.T) (*lab, *model) {
	t.Helper()
	l := newLab(t)
	takesXDP(t, l.outside, "eth0")
	l.attachLabUplink(t)
	m := &model{
		endpoints: map[netip.Addr]bpf.Endpoint{}, uplinks: addrs("192.0.2.1 2001:db8::1"),
		neighbours: map[netip.Addr][2]net.HardwareAddr{},
	}
	for i, addr := range slices.Concat(someClients[:2], someRemotes[:2]) {
		m.neighbours[addr] = [2]net.HardwareAddr{{2, 0, 0, 3, 0, byte(i)}, l.uplink.nearMAC}
		within(t, l.node, func() error {
			return netlink.NeighSet(neighbour(l.uplink.near, addr, m.neighbours[addr][0]))
		})
	}
	for _, text := range []string{"10.244.9.0/24", "fd00:244:9::/64"} {
		prefix := netip.MustParsePrefix(text)
		m.routes = append(m.routes, prefix)
		within(t, l.node, func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: l.uplink.near, Dst: ipNet(prefix.Addr(), prefix.Bits())})
		})
	}
	m.routes = append(m.routes, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64"))
	own := bpf.Endpoint{Ifindex: l.podWire.near, Addrs: ownPods, PodMAC: l.podWire.farMAC, HostMAC: l.podWire.nearMAC}
	for _, addr := range own.Addrs {
		m.endpoints[addr] = own
		m.neighbours[addr] = [2]net.HardwareAddr{own.PodMAC, own.HostMAC}
		m.routes = append(m.routes, netip.PrefixFrom(addr, addr.BitLen()))
	}
	for i := 0; i < len(somePods); i += 2 {
		e := bpf.Endpoint{
			Addrs: somePods[i : i+2], Ifindex: 1000 + i,
			PodMAC: net.HardwareAddr{2, 0, 0, 1, 0, byte(i)}, HostMAC: net.HardwareAddr{2, 0, 0, 2, 0, byte(i)},
		}
		if err := l.datapath.PutEndpoint(e); err != nil {
			t.Fatal(err)
		}
		for _, addr := range e.Addrs {
			m.endpoints[addr] = e
		}
	}
	return l, m
}

// randomServices makes tables, in the data path and in the model.
func (l *lab) randomServices(t *testing.T, rnd *rand.Rand, m *model) {
	t.Helper()
	for f := range m.services {
		if err := l.datapath.DeleteFrontend(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.datapath.Forget(); err != nil {
		t.Fatal(err)
	}
	m.services, m.conntrack = map[bpf.Frontend]modelService{}, map[modelTuple]modelEntry{}
	m.affinity = map[uint64]map[netip.Addr]netip.AddrPort{}
	m.fragments = map[modelFragment]modelTuple{}
	first := uint32(0)
	for _, addr := range someServices {
		for _, scope := range []bpf.Scope{bpf.ScopeCluster, bpf.ScopeExternal} {
			if rnd.IntN(2) == 0 {
				f := bpf.Frontend{Addr: addr, Scope: scope}
				publish(t, l.datapath, f, 0)
				m.services[f] = modelService{}
			}
		}
		for _, port := range somePorts {
			for _, protocol := range []bpf.Protocol{bpf.ProtocolTCP, bpf.ProtocolUDP, bpf.ProtocolSCTP} {
				if rnd.IntN(4) == 0 {
					continue
				}
				f := bpf.Frontend{Addr: addr, Port: port, Protocol: protocol, Scope: bpf.Scope(rnd.IntN(2))}
				first += 32
				m.services[f] = l.randomService(t, rnd, f, first)
			}
		}
	}
}

func (l *lab) randomService(t *testing.T, rnd *rand.Rand, f bpf.Frontend, first uint32) modelService {
	t.Helper()
	s := modelService{affinity: rnd.IntN(3) == 0, number: 1 + rnd.Uint64N(8), silent: rnd.IntN(2) == 0, direct: rnd.IntN(3) == 0}
	for _, addr := range slices.Concat(somePods, ownPods, someRemotes) {
		if addr.Is4() != f.Addr.Is4() || rnd.IntN(3) > 0 {
			continue
		}
		b := bpf.Backend{Addr: addr, Port: 8080 + uint16(rnd.IntN(2))}
		if !slices.Contains(someRemotes, addr) {
			b.Flags = bpf.BackendLocalPod
		}
		s.backends = append(s.backends, b)
	}
	slots := s.backends
	if f.Scope == bpf.ScopeExternal && len(s.backends) > 0 && rnd.IntN(2) == 0 {
		// Each backend has a part of it.
		s.table = slices.Clone(s.backends)
		for len(s.table) < 29 {
			s.table = append(s.table, pick(rnd, s.backends))
		}
		slots = s.table
	}
	publish(t, l.datapath, f, first, slots...)
	r := bpf.Range{First: first, Count: uint32(len(slots)), Generation: 2, Silent: s.silent, Maglev: s.table != nil, Direct: s.direct}
	if s.affinity {
		r.Affinity, r.Service = 10800, s.number
	}
	if rnd.IntN(4) == 0 {
		s.sources, r.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("2001:db8::/126")}, 7
		if err := l.datapath.SetSources(r.Sources, s.sources); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.datapath.SetFrontend(f, r); err != nil {
		t.Fatal(err)
	}
	return s
}

// context is a struct __sk_buff for a packet that came in by an interface.
func context(ifindex int) []byte {
	out := make([]byte, 192)
	binary.NativeEndian.PutUint32(out[40:], uint32(ifindex))
	return out
}

// through runs a program on a packet.
func through(program *ebpf.Program, ifindex int, packet []byte) (verdict uint32, out []byte, err error) {
	options := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256), Context: context(ifindex)}
	verdict, err = program.Run(&options)
	return verdict, options.DataOut, err
}

// throughWire runs the XDP program on a packet, and the tcx program after it on
// what goes up. why says which of them had the last word.
func throughWire(l *lab, packet []byte) (verdict uint32, out []byte, why string, err error) {
	md := make([]byte, 24)
	binary.NativeEndian.PutUint32(md[4:], uint32(len(packet)))
	binary.NativeEndian.PutUint32(md[12:], uint32(l.uplink.near))
	options := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256), Context: md}
	verdict, err = l.datapath.Wire().Run(&options)
	switch {
	case err != nil:
		return 0, nil, "", err
	case verdict == xdpPass && bytes.Equal(options.DataOut, packet):
		verdict, out, err = through(l.datapath.UplinkIn(), l.uplink.near, packet)
		return verdict, out, "up from XDP: ", err
	case verdict == xdpDrop:
		return verdictDrop, nil, "XDP: ", nil
	case verdict == xdpTx || verdict == xdpRedirect:
		return verdictRedirect, options.DataOut, "XDP: ", nil
	}
	return 0, nil, "", fmt.Errorf("the XDP program gave verdict %d for\n%x\nand made of it\n%x", verdict, packet, options.DataOut)
}

// TestRootDifferential sends random packets through the programs and through
// the model, with random tables. Half of those of other hosts meet the XDP program
// first. SLIPWAY_PACKETS says how many,
// SLIPWAY_SEED repeats a run.
func TestRootDifferential(t *testing.T) {
	packets, seed := 200000, rand.Uint64()
	if text := os.Getenv("SLIPWAY_PACKETS"); text != "" {
		packets, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("SLIPWAY_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	l, m := newModelLab(t)
	reasons := map[string]int{}
	within(t, l.node, func() error {
		for i := range packets {
			if i%2000 == 0 {
				l.randomServices(t, rnd, m)
			}
			at := pick(rnd, []string{"uplink_in", "wire", "pod_from", "pod_from", "pod_to"})
			why, err := l.compare(m, randomPacket(rnd, m, at == "pod_from"), at)
			if err != nil {
				return fmt.Errorf("seed %d, packet %d: %w", seed, i, err)
			}
			reasons[at+": "+why]++
		}
		return nil
	})
	for _, why := range slices.Sorted(maps.Keys(reasons)) {
		t.Logf("%8d %s", reasons[why], why)
	}
}

// compare sends one packet through a program and the model.
func (l *lab) compare(m *model, packet []byte, at string) (string, error) {
	in, pod, prefix := parse(packet), m.endpoints[ownPods[0]], ""
	var verdict uint32
	var out []byte
	var err error
	// The test's context names the interface, which the kernel must have.
	switch at {
	case "pod_from":
		verdict, out, err = through(l.datapath.PodFrom(), pod.Ifindex, packet)
	case "pod_to":
		verdict, out, err = through(l.datapath.PodTo(), pod.Ifindex, packet)
	case "wire":
		verdict, out, prefix, err = throughWire(l, packet)
	default:
		verdict, out, err = through(l.datapath.UplinkIn(), l.uplink.near, packet)
	}
	if err != nil {
		return "", err
	}
	if verdict == verdictDrop {
		out = nil
	}
	var want outcome
	switch at {
	case "pod_from":
		want = m.podFrom(in, pod, out)
	case "pod_to":
		want = m.podTo(in)
	default:
		want = m.uplinkIn(in, out)
	}
	if want.packet == nil && want.verdict != verdictDrop && in == nil {
		want.packet = packet
	}
	if verdict != want.verdict || !samePacket(out, want.packet, in != nil && !bytes.Equal(in.bytes(), packet)) {
		return "", fmt.Errorf("%s, %s: %x\ngave verdict %d\n%x\nexpected %s, %d\n%x", at, prefix, packet, verdict, out, want.why, want.verdict, want.packet)
	}
	return prefix + want.why, nil
}
