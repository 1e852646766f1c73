// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// sticky makes frontends of one Service with affinity, that lead to servers in a
// pod's network namespace.
func (l *lab) sticky(t *testing.T, number uint64, host string, frontends ...bpf.Frontend) {
	t.Helper()
	var backends []bpf.Backend
	for _, name := range []string{"one", "two", "three", "four"} {
		server := serveIn(t, l.pod, host, name)
		backends = append(backends, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: bpf.BackendLocalPod})
	}
	for i, f := range frontends {
		first := uint32(number)*100 + uint32(10*i)
		publish(t, l.datapath, f, first, backends...)
		if err := l.datapath.SetFrontend(f, bpf.Range{First: first, Count: 4, Affinity: 60, Service: number}); err != nil {
			t.Fatal(err)
		}
	}
}

// askIn runs a client process in a namespace and a cgroup.
func askIn(t *testing.T, ns netns.NsHandle, cgroup, kind string, to netip.AddrPort) string {
	t.Helper()
	var out []byte
	roottest.In(t, ns, func() (err error) {
		out, err = exec.Command("/proc/self/exe", "client", cgroup, kind, to.String()).Output()
		return err
	})
	return strings.TrimSpace(string(out))
}

// answers asks each of the frontends in turn, and returns who has answered.
func answers(t *testing.T, ns netns.NsHandle, cgroup string, frontends ...bpf.Frontend) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for i := range 24 {
		f := frontends[i%len(frontends)]
		to := netip.AddrPortFrom(f.Addr, f.Port)
		name, peer, _ := strings.Cut(askIn(t, ns, cgroup, "tcp", to), " from ")
		if peer != to.String() {
			t.Errorf("%s answered as %q, expected %s", name, peer, to)
		}
		seen[name]++
	}
	return seen
}

// TestRootAffinityAtSockets has a pod and the node keep their backend from one
// address of a Service to another, as clients with their addresses.
func TestRootAffinityAtSockets(t *testing.T) {
	group, l := cgroup(t), newLab(t)
	if err := l.datapath.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	number := uint64(0)
	for family, a := range labAddrs {
		node := netip.MustParseAddr(a.node)
		within(t, l.node, func() error { return l.datapath.SetNode([]netip.Addr{node}) })
		for name, tt := range map[string]struct {
			ns netns.NsHandle
			as string
		}{"pod": {l.pod, a.pod}, "node": {l.node, a.node}} {
			t.Run(family+" "+name, func(t *testing.T) {
				number++
				frontends := []bpf.Frontend{
					{Addr: netip.MustParseAddr(map[string]string{"IPv4": "10.96.0.9", "IPv6": "fd00:96::9"}[family]), Port: 80, Protocol: bpf.ProtocolTCP},
					{Addr: node, Port: 30080, Protocol: bpf.ProtocolTCP},
				}
				l.sticky(t, number, a.pod, frontends...)
				if seen := answers(t, tt.ns, group, frontends...); len(seen) != 1 {
					t.Errorf("answers came from %v, expected one backend", seen)
				}
				if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr(tt.as)}, l.datapath.Clients()[number], cmp.Comparer(sameAddr)); diff != "" {
					t.Errorf("clients (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

// TestRootAffinityOfOthers has a namespace that nobody has entered known as itself,
// and forgets a pod with its endpoint.
func TestRootAffinityOfOthers(t *testing.T) {
	group, l := cgroup(t), newLab(t)
	if err := l.datapath.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	usage(t, l.datapath, map[string]uint32{"clients": 1})
	if err := l.datapath.DeleteEndpoint(l.podWire.near); err != nil {
		t.Fatal(err)
	}
	usage(t, l.datapath, map[string]uint32{"clients": 0})
	f := bpf.Frontend{Addr: netip.MustParseAddr("10.96.0.9"), Port: 80, Protocol: bpf.ProtocolTCP}
	l.sticky(t, 1, labAddrs["IPv4"].pod, f)
	if seen := answers(t, l.pod, group, f); len(seen) != 1 {
		t.Errorf("answers came from %v, expected one backend", seen)
	}
	var want [16]byte
	within(t, l.pod, func() error {
		cookie, err := bpf.NetNSCookie()
		binary.NativeEndian.PutUint32(want[8:], uint32(cookie>>32))
		binary.NativeEndian.PutUint32(want[12:], uint32(cookie))
		return err
	})
	if got := l.datapath.Clients()[1]; len(got) != 1 || got[0] != netip.AddrFrom16(want) {
		t.Errorf("clients are %v, expected the cookie %x", got, want)
	}
}

// TestRootAffinityOnTheWire has another host keep its backend from the NodePort to
// an external address.
func TestRootAffinityOnTheWire(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		t.Run(family, func(t *testing.T) {
			outer := netip.MustParseAddr(map[string]string{"IPv4": "198.51.100.7", "IPv6": "2001:db8:7::7"}[family])
			within(t, l.outside, func() error {
				return netlink.RouteAdd(&netlink.Route{Dst: ipNet(outer, outer.BitLen()), Gw: net.ParseIP(a.node)})
			})
			frontends := []bpf.Frontend{
				{Addr: netip.MustParseAddr(a.node), Port: 30080, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal},
				{Addr: outer, Port: 80, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal},
			}
			number := uint64(netip.MustParseAddr(a.node).BitLen())
			l.sticky(t, number, a.pod, frontends...)
			if seen := answers(t, l.outside, "", frontends...); len(seen) != 1 {
				t.Errorf("answers came from %v, expected one backend", seen)
			}
			if diff := cmp.Diff([]netip.Addr{netip.MustParseAddr(a.outside)}, l.datapath.Clients()[number], cmp.Comparer(sameAddr)); diff != "" {
				t.Errorf("clients (-want +got):\n%s", diff)
			}
		})
	}
}
