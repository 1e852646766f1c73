// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"slipway.dev/slipway/bpf"
)

// TestRootViewWithoutDatapath tells apart nothing at all and tables that are
// not ours.
func TestRootViewWithoutDatapath(t *testing.T) {
	pins := bpffs(t)
	if _, err := bpf.OpenView(pins); !errors.Is(err, bpf.ErrNoDatapath) {
		t.Errorf("got %v, expected %v", err, bpf.ErrNoDatapath)
	}
	unpin := openDatapath(t, pins)
	if err := unpin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(pins, "maps", "conntrack")); err != nil {
		t.Fatal(err)
	}
	if _, err := bpf.OpenView(pins); !errors.Is(err, bpf.ErrOtherLayout) {
		t.Errorf("got %v, expected %v", err, bpf.ErrOtherLayout)
	}
}

// TestRootView reads what another process has written, by the pins alone.
func TestRootView(t *testing.T) {
	pins := bpffs(t)
	d := openDatapath(t, pins)
	web := bpf.Frontend{Addr: netip.MustParseAddr("10.96.0.5"), Port: 80, Protocol: bpf.ProtocolTCP}
	empty := bpf.Frontend{Addr: netip.MustParseAddr("2001:db8::1"), Port: 53, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
	backends := []bpf.Backend{
		{Addr: netip.MustParseAddr("10.244.0.5"), Port: 8080, Flags: bpf.BackendLocalPod},
		{Addr: netip.MustParseAddr("10.244.1.5"), Port: 8080},
	}
	publish(t, d, web, 10, backends...)
	publish(t, d, empty, 20)
	usage(t, d, map[string]uint32{"frontends": 2})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := bpf.OpenView(pins)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	frontends, err := v.Frontends()
	if err != nil {
		t.Fatal(err)
	}
	want := map[bpf.Frontend]bpf.Range{web: {First: 10, Count: 2, Generation: 1}, empty: {First: 20, Generation: 1}}
	if diff := cmp.Diff(want, frontends, equateAddrs); diff != "" {
		t.Errorf("frontends (-want +got):\n%s", diff)
	}
	found, err := v.Backends(frontends[web])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(backends, found, equateAddrs); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
}

var equateAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, bpf.Frontend{})

// TestRootViewConntrack reads both ways of a connection through a NodePort.
func TestRootViewConntrack(t *testing.T) {
	l := newLab(t)
	node, pod := netip.MustParseAddr(labAddrs["IPv4"].node), netip.MustParseAddr(labAddrs["IPv4"].pod)
	target := serveIn(t, l.pod, pod.String(), "pod")
	port := bpf.Frontend{Addr: node, Port: 30080, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
	publish(t, l.datapath, port, 0, bpf.Backend{Addr: pod, Port: target.Port(), Flags: bpf.BackendLocalPod})
	service := netip.AddrPortFrom(node, port.Port)
	askFrom(t, l.outside, "tcp", service)
	outside := netip.MustParseAddr(labAddrs["IPv4"].outside)
	ways := map[bpf.Rewrite]bpf.Conntrack{}
	for c, err := range l.datapath.Conntrack() {
		if err != nil {
			t.Fatal(err)
		}
		if c.Idle > 1e11 {
			t.Errorf("idle for %v", c.Idle)
		}
		ways[c.Rewrite] = c
	}
	request, reply := ways[bpf.RewriteDestination], ways[bpf.RewriteSource]
	if request.Src.Addr() != outside || request.Dst != service || request.To != target || request.Protocol != bpf.ProtocolTCP {
		t.Errorf("request: %+v", request)
	}
	if reply.Src != target || reply.Dst != request.Src || reply.To != service {
		t.Errorf("reply: %+v", reply)
	}
	usage(t, l.datapath, map[string]uint32{"conntrack": 2, "frontends": 1, "endpoints": 2, "pods": 1, "uplinks": 1})
}

// usage checks the entries of some tables, and that all have a size.
func usage(t *testing.T, d *bpf.Datapath, want map[string]uint32) {
	t.Helper()
	all, err := d.Usage()
	if err != nil {
		t.Fatalf("%+v", err)
	}
	for _, u := range all {
		// A trie without entries takes none.
		if u.Capacity == 0 || u.Memory == 0 && u.Table != "sources" {
			t.Errorf("%+v: expected capacity and memory", u)
		}
		if n, ok := want[u.Table]; ok && u.Entries != n {
			t.Errorf("%s has %d entries, expected %d", u.Table, u.Entries, n)
		}
	}
}
