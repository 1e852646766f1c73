// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/bpf"
)

// TestWriterServesWhatFits has each table end at its bound in turn.
func TestWriterServesWhatFits(t *testing.T) {
	tables := Tables{}
	for i := range 8 {
		tables[frontend(i)] = Target{Backends: []bpf.Backend{backend(i, 1), backend(i, 2)}}
	}
	for table, bound := range map[bpf.Table]uint32{bpf.TableFrontends: 4, bpf.TableSlots: 8, bpf.TableBackends: 8} {
		t.Run(string(table), func(t *testing.T) {
			datapath := newFake(1, 1)
			datapath.room = 1
			datapath.bounds = map[bpf.Table]uint32{bpf.TableFrontends: 64, bpf.TableSlots: 64, bpf.TableBackends: 64}
			datapath.bounds[table] = bound
			w := mustWriter(t, datapath, time.Now)
			if _, err := w.apply(tables); !errors.Is(err, bpf.ErrBound) {
				t.Errorf("got %v, expected that a table is full", err)
			}
			if len(datapath.frontends) != 4 || len(w.unserved) != 4 {
				t.Errorf("%d frontends are served, %d are not; expected 4 each", len(datapath.frontends), len(w.unserved))
			}
			datapath.bounds[table] = 64
			if _, err := w.apply(tables); err != nil || !maps.EqualFunc(datapath.tables(), tables, Target.Equal) {
				t.Errorf("with a larger bound: %v, %v", datapath.tables(), err)
			}
		})
	}
}

// TestWriterMakesRoomFirst has the table of frontends grow once, while it has none.
func TestWriterMakesRoomFirst(t *testing.T) {
	datapath := newFake(1, 1)
	datapath.room, datapath.bounds = 2, map[bpf.Table]uint32{bpf.TableFrontends: 64}
	tables := Tables{}
	for i := range 8 {
		tables[frontend(i)] = Target{}
	}
	var sizes []int
	datapath.after = func() {
		if datapath.grown > len(sizes) {
			sizes = append(sizes, len(datapath.frontends))
		}
	}
	if _, err := mustWriter(t, datapath, time.Now).apply(tables); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0}, sizes); diff != "" {
		t.Errorf("it had so many entries when it grew, -want +got:\n%s", diff)
	}
}

// TestWriterSharesRanges has frontends with the same backends lead to one range, also
// after a restart, until each of them has left it.
func TestWriterSharesRanges(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	datapath := newFake(100, 100)
	w := mustWriter(t, datapath, clock)
	both := []bpf.Backend{backend(1, 1), backend(1, 2)}
	apply := func(slots, backends int, tables Tables) {
		t.Helper()
		now = now.Add(2 * grace)
		for range 2 {
			if _, err := w.apply(tables); err != nil {
				t.Fatal(err)
			}
			now = now.Add(2 * grace)
			w.collect()
		}
		if int(w.slots.used) != slots || w.ids.used != backends {
			t.Errorf("%d slots and %d backends are in use, expected %d and %d", w.slots.used, w.ids.used, slots, backends)
		}
		if !maps.EqualFunc(datapath.tables(), tables, Target.Equal) {
			t.Errorf("the data path has %v, expected %v", datapath.tables(), tables)
		}
	}
	apply(2, 2, Tables{frontend(1): {Backends: both}, frontend(2): {Backends: both, Affinity: 3}, frontend(3): {Backends: slices.Clone(both)}})
	w = mustWriter(t, datapath, clock)
	apply(2, 2, Tables{frontend(1): {Backends: both}, frontend(2): {Backends: both, Affinity: 3}, frontend(4): {Backends: both}})
	apply(3, 2, Tables{frontend(1): {Backends: both[:1]}, frontend(2): {Backends: both}})
	apply(1, 1, Tables{frontend(1): {Backends: both[:1]}})
	apply(0, 0, Tables{})
}
