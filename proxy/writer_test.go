// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/bpf"
)

var errInjected = errors.New("injected")

// fake is a data path in memory. Before each write it may fail, and after each
// it checks that all frontends lead to backends that were theirs.
type fake struct {
	frontends map[bpf.Frontend]bpf.Range
	slots     []uint32
	backends  []bpf.Backend
	sources   map[uint32][]netip.Prefix
	fail      func() bool
	after     func()
}

func newFake(slots, backends int) *fake {
	return &fake{
		frontends: map[bpf.Frontend]bpf.Range{}, slots: make([]uint32, slots), backends: make([]bpf.Backend, backends),
		sources: map[uint32][]netip.Prefix{}, fail: func() bool { return false }, after: func() {},
	}
}

func (f *fake) write(do func()) error {
	if f.fail() {
		return errInjected
	}
	do()
	f.after()
	return nil
}

func (f *fake) SetFrontend(k bpf.Frontend, r bpf.Range) error {
	return f.write(func() { f.frontends[k] = r })
}
func (f *fake) DeleteFrontend(k bpf.Frontend) error {
	return f.write(func() { delete(f.frontends, k) })
}
func (f *fake) SetSlots(first uint32, ids []uint32) error {
	return f.write(func() { copy(f.slots[first:], ids) })
}
func (f *fake) SetBackend(id uint32, b bpf.Backend) error {
	return f.write(func() { f.backends[id] = b })
}
func (f *fake) SetSources(set uint32, ranges []netip.Prefix) error {
	return f.write(func() { f.sources[set] = ranges })
}
func (f *fake) DeleteSources(set uint32, _ []netip.Prefix) error {
	return f.write(func() { delete(f.sources, set) })
}
func (f *fake) Sources() (map[uint32][]netip.Prefix, error)    { return maps.Clone(f.sources), nil }
func (f *fake) Frontends() (map[bpf.Frontend]bpf.Range, error) { return maps.Clone(f.frontends), nil }
func (f *fake) Slots(first, count uint32) ([]uint32, error) {
	return slices.Clone(f.slots[first : first+count]), nil
}
func (f *fake) Backend(id uint32) (bpf.Backend, error) { return f.backends[id], nil }
func (f *fake) SlotCapacity() uint32                   { return uint32(len(f.slots)) }
func (f *fake) BackendCapacity() uint32                { return uint32(len(f.backends)) }

// resolve is what a program would find.
func (f *fake) resolve(k bpf.Frontend) []bpf.Backend {
	r := f.frontends[k]
	out := []bpf.Backend{}
	for _, id := range f.slots[r.First : r.First+r.Count] {
		out = append(out, f.backends[id])
	}
	return out
}

func (f *fake) tables() Tables {
	out := Tables{}
	for k := range f.frontends {
		r := f.frontends[k]
		out[k] = Target{Backends: f.resolve(k), Affinity: r.Affinity, Sources: f.sources[r.Sources], Silent: r.Silent}
	}
	return out
}

func frontend(i int) bpf.Frontend {
	return bpf.Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), Port: 80, Protocol: bpf.ProtocolTCP}
}

// backend encodes which frontend it belongs to.
func backend(owner, i int) bpf.Backend {
	return bpf.Backend{Addr: netip.AddrFrom4([4]byte{10, 244, byte(owner), byte(i)}), Port: 8080}
}

var randomSources = [][]netip.Prefix{
	nil, nil, {netip.MustParsePrefix("192.0.2.0/24")}, {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
}

func randomTables(rnd *rand.Rand) Tables {
	tables := Tables{}
	for i := range 12 {
		if rnd.IntN(4) == 0 {
			continue
		}
		backends := []bpf.Backend{}
		for j := range 8 {
			if rnd.IntN(2) == 0 {
				backends = append(backends, backend(i, j))
			}
		}
		tables[frontend(i)] = Target{
			Backends: backends, Affinity: uint32(rnd.IntN(3)) * 10800, Silent: rnd.IntN(2) == 0, Sources: randomSources[rnd.IntN(len(randomSources))],
		}
	}
	return tables
}

// TestWriterChurn applies random tables with random failures and crashes. At
// every moment a frontend leads to one set of backends that it had been
// given, never to another frontend's and never to a mixture.
func TestWriterChurn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	datapath := newFake(1200, 200)
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	given := map[bpf.Frontend][][]bpf.Backend{}
	datapath.after = func() {
		for k := range datapath.frontends {
			found := datapath.resolve(k)
			if !slices.ContainsFunc(given[k], func(set []bpf.Backend) bool { return slices.Equal(set, found) }) {
				t.Fatalf("%v leads to %v, which it was never given", k, found)
			}
		}
	}
	w := mustWriter(t, datapath, clock)
	for range 3000 {
		now = now.Add(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		tables := randomTables(rnd)
		for k, set := range tables {
			given[k] = append(given[k][max(0, len(given[k])-3):], set.Backends)
		}
		datapath.fail = func() bool { return rnd.IntN(40) == 0 }
		_, err := w.apply(tables)
		if rnd.IntN(20) == 0 {
			// Killed: what the data path serves is all that is left.
			w = mustWriter(t, datapath, clock)
		}
		datapath.fail = func() bool { return false }
		if _, again := w.apply(tables); again != nil {
			t.Fatalf("%v, after %v", again, err)
		}
		if !maps.EqualFunc(datapath.tables(), tables, Target.Equal) {
			t.Fatalf("the data path has %v, expected %v", datapath.tables(), tables)
		}
	}
	now = now.Add(time.Hour)
	if _, err := w.apply(Tables{}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	w.collect()
	if w.slots.used != 0 || w.ids.used != 0 || len(datapath.sources) != 0 {
		t.Errorf("%d slots, %d backends and the sets %v are never freed", w.slots.used, w.ids.used, datapath.sources)
	}
}

func mustWriter(t *testing.T, d Datapath, clock func() time.Time) *writer {
	t.Helper()
	w, err := newWriter(d, clock)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWriterKeepsRangesForAWhile(t *testing.T) {
	now := time.Unix(0, 0)
	datapath := newFake(100, 100)
	w := mustWriter(t, datapath, func() time.Time { return now })
	apply := func(backends ...bpf.Backend) {
		t.Helper()
		if _, err := w.apply(Tables{frontend(1): {Backends: backends}}); err != nil {
			t.Fatal(err)
		}
	}
	apply(backend(1, 1))
	old := datapath.frontends[frontend(1)]
	for i := range 10 {
		apply(backend(1, 2+i))
		if id := datapath.slots[old.First]; datapath.backends[id] != backend(1, 1) {
			t.Fatal("a range was reused before its time")
		}
	}
	now = now.Add(2 * grace)
	apply(backend(1, 1))
	if len(w.retired) > 1 {
		t.Errorf("%d ranges are kept after their time", len(w.retired))
	}
}

func TestWriterChangesOnlyWhatDiffers(t *testing.T) {
	datapath := newFake(100, 100)
	w := mustWriter(t, datapath, time.Now)
	tables := Tables{frontend(1): {Backends: []bpf.Backend{backend(1, 1)}}, frontend(2): {}}
	for i, want := range []int{2, 0, 0} {
		if changed, err := w.apply(tables); err != nil || changed != want {
			t.Errorf("apply %d changed %d (%v), expected %d", i, changed, err, want)
		}
	}
	if changed, err := mustWriter(t, datapath, time.Now).apply(tables); err != nil || changed != 0 {
		t.Errorf("an adopted state was changed: %d (%v)", changed, err)
	}
}

func TestWriterTellsWhatDoesNotFit(t *testing.T) {
	datapath := newFake(3, 100)
	w := mustWriter(t, datapath, time.Now)
	tables := Tables{
		frontend(1): {Backends: []bpf.Backend{backend(1, 1), backend(1, 2)}},
		frontend(2): {Backends: []bpf.Backend{backend(2, 1), backend(2, 2)}},
	}
	_, err := w.apply(tables)
	if !errors.Is(err, errFull) {
		t.Fatalf("got %v, expected that a table is full", err)
	}
	if len(datapath.frontends) != 1 {
		t.Errorf("%d frontends are served, expected the one that fits", len(datapath.frontends))
	}
	if !strings.HasSuffix(err.Error(), "(3)") {
		t.Errorf("%q does not name the capacity", err)
	}
}

// TestWriterAdoptsDamage starts on tables that make no sense.
func TestWriterAdoptsDamage(t *testing.T) {
	datapath := newFake(10, 4)
	datapath.frontends = map[bpf.Frontend]bpf.Range{
		frontend(1): {First: 0, Count: 2}, // its slots lead beyond the backends
		frontend(2): {First: 1, Count: 2}, // overlaps the first
		frontend(3): {First: 8, Count: 5}, // beyond the slots
	}
	datapath.slots[0], datapath.slots[1] = 99, 99
	w := mustWriter(t, datapath, time.Now)
	want := Tables{
		frontend(1): {Backends: []bpf.Backend{backend(1, 1)}},
		frontend(2): {Backends: []bpf.Backend{backend(2, 1)}},
	}
	if _, err := w.apply(want); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(datapath.tables(), want, Target.Equal) {
		t.Errorf("the data path has %v, expected %v", datapath.tables(), want)
	}
}
