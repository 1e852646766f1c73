// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// TestTables keeps the list of tables, and of those that are counted, equal to
// what lib/maps.h has.
func TestTables(t *testing.T) {
	blueprint, err := loadUplink()
	if err != nil {
		t.Fatal(err)
	}
	// Constants, variables and scratch space are in maps, too, which are none of those.
	maps.DeleteFunc(blueprint.Maps, func(_ string, spec *ebpf.MapSpec) bool { return spec.Pinning != ebpf.PinByName })
	known := (&uplinkMaps{}).byName()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(blueprint.Maps)), slices.Sorted(maps.Keys(known))); diff != "" {
		t.Errorf("tables (-lib/maps.h +byName):\n%s", diff)
	}
	counted := countsOf(countTableCounts{})
	for name, spec := range blueprint.Maps {
		if spec.InnerMap != nil {
			spec = spec.InnerMap
		}
		_, ok := counted[name]
		if hash := spec.Type == ebpf.Hash || spec.Type == ebpf.LRUHash; hash != ok {
			t.Errorf("table %s is a %v; counted: %v", name, spec.Type, ok)
		}
	}
}

func TestConntrackOf(t *testing.T) {
	a, b, c, d := netip.MustParseAddrPort("192.0.2.9:40000"), netip.MustParseAddrPort("192.0.2.1:30080"),
		netip.MustParseAddrPort("10.244.0.5:8080"), netip.MustParseAddrPort("192.0.2.1:5000")
	key := uplinkTuple{Src: toAddr(a.Addr()), Sport: toPort(a.Port()), Dst: toAddr(b.Addr()), Dport: toPort(b.Port()), Proto: 17}
	value := uplinkCt{
		Addr: toAddr(c.Addr()), Port: toPort(c.Port()), From: toAddr(d.Addr()), FromPort: toPort(d.Port()),
		Seen: uint64(3 * time.Second),
	}
	for name, tt := range map[string]struct {
		action uint16
		want   Conntrack
	}{
		"to a pod of this node":     {1, Conntrack{ProtocolUDP, a, b, RewriteDestination, c, netip.AddrPort{}, 2 * time.Second}},
		"from a pod of this node":   {2, Conntrack{ProtocolUDP, a, b, RewriteSource, c, netip.AddrPort{}, 2 * time.Second}},
		"with a pod of another one": {3, Conntrack{ProtocolUDP, a, b, RewriteBoth, c, d, 2 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			value.Action = tt.action
			if got := conntrackOf(key, value, 5*time.Second); got != tt.want {
				t.Errorf("got %+v, expected %+v", got, tt.want)
			}
		})
	}
}
