// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// TestRootSourceRangesAtSockets has pods and the node use an address only where
// theirs is in its ranges.
func TestRootSourceRangesAtSockets(t *testing.T) {
	group, l := cgroup(t), newLab(t)
	if err := l.datapath.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	stranger := roottest.NetNS(t)
	within(t, stranger, func() error { return up("lo") })
	within(t, l.node, func() error {
		return l.datapath.SetNode([]netip.Addr{netip.MustParseAddr(labAddrs["IPv4"].node), netip.MustParseAddr(labAddrs["IPv6"].node)})
	})
	set := uint32(0)
	for family, a := range labAddrs {
		server := serveIn(t, l.pod, a.pod, "pod")
		for name, tt := range map[string]struct {
			from    netns.NsHandle
			allowed string
			served  bool
		}{
			"pod":                     {l.pod, a.pod, true},
			"pod that is not meant":   {l.pod, a.node, false},
			"node":                    {l.node, a.node, true},
			"node that is not meant":  {l.node, a.pod, false},
			"namespace nobody knows":  {stranger, a.pod, false},
			"pod of the other family": {l.pod, map[string]string{"IPv4": "::", "IPv6": "0.0.0.0"}[family], false},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				set++
				addr := netip.MustParseAddr(tt.allowed)
				ranges := []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
				if addr.IsUnspecified() {
					ranges[0] = netip.PrefixFrom(addr, 0)
				}
				if err := l.datapath.SetSources(set, ranges); err != nil {
					t.Fatal(err)
				}
				f := bpf.Frontend{Addr: netip.MustParseAddr(map[string]string{"IPv4": "198.51.100.9", "IPv6": "2001:db8:9::9"}[family]), Port: 80, Protocol: bpf.ProtocolTCP}
				publish(t, l.datapath, f, set, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: bpf.BackendLocalPod})
				if err := l.datapath.SetFrontend(f, bpf.Range{First: set, Count: 1, Sources: set}); err != nil {
					t.Fatal(err)
				}
				got := askIn(t, tt.from, group, "tcp", netip.AddrPortFrom(f.Addr, f.Port))
				if served := strings.HasPrefix(got, "pod from"); served != tt.served || !served && !strings.Contains(got, "operation not permitted") {
					t.Errorf("got %q; expected to be served: %v", got, tt.served)
				}
			})
		}
	}
	wantDrop(t, l.datapath, "source_range")
}
