// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"time"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// TestRootWriterGrows fills the kernel's tables beyond what they begin with, and
// beyond their bounds.
func TestRootWriterGrows(t *testing.T) {
	// Enough for 65,536 frontends, 2,097,152 slots and 524,288 backends.
	d, err := bpf.Open(bpf.Config{PinDir: roottest.BPFFS(t) + "/slipway", Memory: 1 << 30, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	tables := Tables{}
	add := func(until int) {
		for i := len(tables); i < until; i++ {
			addr := func(first byte) netip.Addr {
				return netip.AddrFrom4([4]byte{first, byte(i >> 16), byte(i >> 8), byte(i)})
			}
			target := Target{}
			for j := range byte(4) {
				target.Backends = append(target.Backends, bpf.Backend{Addr: addr(20 + j), Port: 8080})
			}
			tables[bpf.Frontend{Addr: addr(10), Port: 80, Protocol: bpf.ProtocolTCP}] = target
		}
	}
	add(20000)
	w := mustWriter(t, d, time.Now)
	if changed, err := w.apply(tables); err != nil || changed != len(tables) {
		t.Fatalf("wrote %d of %d: %v", changed, len(tables), err)
	}
	for table, want := range map[bpf.Table]uint32{bpf.TableFrontends: 32768, bpf.TableSlots: 131072, bpf.TableBackends: 131072} {
		if got := d.Capacity(table); got != want {
			t.Errorf("%s has room for %d, expected %d", table, got, want)
		}
	}
	again := mustWriter(t, d, time.Now)
	if !maps.EqualFunc(again.entries, tables, again.leads) {
		t.Errorf("the data path has %d frontends, or other backends than it was given", len(again.entries))
	}
	add(65537)
	if _, err := again.apply(tables); !errors.Is(err, bpf.ErrBound) || len(again.unserved) != 1 {
		t.Errorf("%d frontends are not served (%v), expected the one that is too many", len(again.unserved), err)
	}
}
