// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/bpf"
)

func TestRootEndpoints(t *testing.T) {
	d := openDatapath(t, bpffs(t))
	pod := bpf.Endpoint{
		Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.5")}, Ifindex: 7,
		PodMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, HostMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
	}
	// Twice: it is idempotent.
	for range 2 {
		if err := d.PutEndpoint(pod); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bpf.Endpoint{pod}, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	// Its address goes to another pod before it is removed.
	heir := pod
	heir.Ifindex = 8
	if err := d.PutEndpoint(heir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.DeleteEndpoint(pod.Ifindex); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = d.Endpoints(); err != nil || len(got) != 1 || got[0].Ifindex != 8 {
		t.Errorf("got %v (%v), expected the heir", got, err)
	}
}

func TestRootTables(t *testing.T) {
	d := openDatapath(t, bpffs(t))
	ids := []uint32{5, 6, 7}
	if err := d.SetSlots(100, ids); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Slots(100, 3); err != nil || !cmp.Equal(got, ids) {
		t.Errorf("slots are %v (%v)", got, err)
	}
	if err := d.SetSlots(d.Capacity(bpf.TableSlots)-1, ids); err == nil {
		t.Error("slots beyond the end were written")
	}
	want := bpf.Backend{Addr: netip.MustParseAddr("fd00::5"), Port: 8080, Flags: bpf.BackendLocalPod}
	if err := d.SetBackend(9, want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Backend(9); err != nil || got != want {
		t.Errorf("backend is %v (%v)", got, err)
	}
	if _, err := d.Backend(d.Capacity(bpf.TableBackends)); err == nil {
		t.Error("a backend beyond the end was read")
	}
}

// TestRootOtherLayoutIsReplaced pins a map of another release first: one that all
// programs have, and one of those for packets.
func TestRootOtherLayoutIsReplaced(t *testing.T) {
	for _, name := range []string{"frontends", "conntrack"} {
		t.Run(name, func(t *testing.T) { replaceOtherLayout(t, name) })
	}
}

func replaceOtherLayout(t *testing.T, name string) {
	t.Helper()
	pins := bpffs(t)
	if err := os.MkdirAll(filepath.Join(pins, "maps"), 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := old.Pin(filepath.Join(pins, "maps", name)); err != nil {
		t.Fatal(err)
	}
	d := openDatapath(t, pins)
	if err := d.SetFrontend(bpf.Frontend{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}, bpf.Range{}); err != nil {
		t.Error(err)
	}
}
