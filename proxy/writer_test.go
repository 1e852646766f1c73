// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy/maglev"
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
	// room is for how many frontends there is room now; bounds is how far tables
	// may grow, which they do not when it is nil.
	room   uint32
	bounds map[bpf.Table]uint32
	grown  int
}

// Tables are desired, too: whole ones, as tests have them.
func (t Tables) at(f bpf.Frontend) (Target, bool) {
	target, wanted := t[f]
	return target, wanted
}

func (t Tables) all() iter.Seq[bpf.Frontend] { return maps.Keys(t) }

func (t Tables) count() int { return len(t) }

func newFake(slots, backends int) *fake {
	return &fake{
		frontends: map[bpf.Frontend]bpf.Range{}, slots: make([]uint32, slots), backends: make([]bpf.Backend, backends),
		sources: map[uint32][]netip.Prefix{}, fail: func() bool { return false }, after: func() {}, room: 1 << 20,
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
	if _, known := f.frontends[k]; !known && uint32(len(f.frontends)) >= f.room {
		return errors.New("no room")
	}
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
	return f.write(func() {
		f.sources[set] = slices.Compact(slices.SortedFunc(slices.Values(slices.Concat(f.sources[set], ranges)), comparePrefixes))
	})
}
func (f *fake) DeleteSources(set uint32, ranges []netip.Prefix) error {
	return f.write(func() {
		f.sources[set] = slices.DeleteFunc(slices.Clone(f.sources[set]), func(r netip.Prefix) bool { return slices.Contains(ranges, r) })
		if len(f.sources[set]) == 0 {
			delete(f.sources, set)
		}
	})
}
func (f *fake) Sources() (map[uint32][]netip.Prefix, error)    { return maps.Clone(f.sources), nil }
func (f *fake) Frontends() (map[bpf.Frontend]bpf.Range, error) { return maps.Clone(f.frontends), nil }
func (f *fake) Slots(first, count uint32) ([]uint32, error) {
	return slices.Clone(f.slots[first : first+count]), nil
}
func (f *fake) Backend(id uint32) (bpf.Backend, error) { return f.backends[id], nil }

func (f *fake) Capacity(t bpf.Table) uint32 {
	return map[bpf.Table]uint32{
		bpf.TableFrontends: f.room, bpf.TableSlots: uint32(len(f.slots)), bpf.TableBackends: uint32(len(f.backends)),
	}[t]
}

func (f *fake) Grow(t bpf.Table, least uint32) (uint32, error) {
	size, bound := f.Capacity(t), f.bounds[t]
	if size >= bound {
		return size, bpf.ErrBound
	}
	for size < least && size < bound {
		size *= 2
	}
	err := f.write(func() {
		f.grown++
		switch t {
		case bpf.TableFrontends:
			f.room = size
		case bpf.TableSlots:
			f.slots = append(f.slots, make([]uint32, int(size)-len(f.slots))...)
		case bpf.TableBackends:
			f.backends = append(f.backends, make([]bpf.Backend, int(size)-len(f.backends))...)
		}
	})
	return f.Capacity(t), err
}

// resolve is what a program would find. Of a Maglev table each backend is there
// once.
func (f *fake) resolve(k bpf.Frontend) []bpf.Backend {
	r := f.frontends[k]
	out := []bpf.Backend{}
	seen := make([]bool, len(f.backends))
	for _, id := range f.slots[r.First : r.First+r.Count] {
		if !seen[id] {
			out = append(out, f.backends[id])
		}
		seen[id] = r.Maglev
	}
	if r.Maglev {
		slices.SortFunc(out, compareBackends)
	}
	return out
}

func (f *fake) tables() Tables {
	out := Tables{}
	for k := range f.frontends {
		r := f.frontends[k]
		out[k] = Target{Backends: f.resolve(k), Affinity: r.Affinity, Service: r.Service, Sources: f.sources[r.Sources], Silent: r.Silent, Maglev: r.Maglev, Direct: r.Direct}
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

// randomTables have three frontends of each owner, some with the same backends.
func randomTables(rnd *rand.Rand) Tables {
	tables := Tables{}
	var backends []bpf.Backend
	for i := range 12 {
		if i%3 == 0 || rnd.IntN(3) == 0 {
			backends = []bpf.Backend{}
			for j := range 8 {
				if rnd.IntN(2) == 0 {
					backends = append(backends, backend(i/3, j))
				}
			}
		}
		if rnd.IntN(4) == 0 {
			continue
		}
		tables[frontend(i)] = Target{
			Direct:   rnd.IntN(3) == 0,
			Maglev:   tabled(len(backends)) && rnd.IntN(2) == 0,
			Backends: backends, Affinity: uint32(rnd.IntN(3)) * 10800, Service: uint64(rnd.IntN(2)), Silent: rnd.IntN(2) == 0, Sources: randomSources[rnd.IntN(len(randomSources))],
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
	// Small at first, so that it grows in the midst of failures and crashes.
	datapath := newFake(2, 1)
	datapath.room = 1
	datapath.bounds = map[bpf.Table]uint32{bpf.TableFrontends: 16, bpf.TableSlots: 1 << 18, bpf.TableBackends: 256}
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
	if datapath.grown < 10 {
		t.Errorf("tables grew %d times only", datapath.grown)
	}
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

// Frontends with the same backends share a Maglev table, also after a restart,
// and it is there until the last one has left it.
func TestWriterSharesLookups(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	datapath := newFake(2*maglev.Size, 100)
	target := Target{Backends: []bpf.Backend{backend(1, 1), backend(1, 2)}, Maglev: true}
	tables := Tables{frontend(1): target, frontend(2): target, frontend(3): target}
	w := mustWriter(t, datapath, clock)
	for range 2 {
		if _, err := w.apply(tables); err != nil {
			t.Fatal(err)
		}
		if w.slots.used != maglev.Size {
			t.Fatalf("%d slots are used, expected %d", w.slots.used, maglev.Size)
		}
		w = mustWriter(t, datapath, clock)
	}
	for _, left := range []int{2, 1, 0} {
		delete(tables, frontend(left+1))
		if _, err := w.apply(tables); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * grace)
		w.collect()
		if want := uint32(min(left, 1) * maglev.Size); w.slots.used != want {
			t.Errorf("%d slots are used for %d frontends, expected %d", w.slots.used, left, want)
		}
	}
}

// A Maglev table that another release has made is written anew.
func TestWriterAdoptsOtherLookup(t *testing.T) {
	datapath := newFake(3*maglev.Size, 100)
	tables := Tables{frontend(1): {Backends: []bpf.Backend{backend(1, 1), backend(1, 2)}, Maglev: true}}
	if _, err := mustWriter(t, datapath, time.Now).apply(tables); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(datapath.slots[:maglev.Size])
	w := mustWriter(t, datapath, time.Now)
	if changed, err := w.apply(tables); err != nil || changed != 1 {
		t.Fatalf("%d frontends were changed (%v), expected 1", changed, err)
	}
	if changed, err := mustWriter(t, datapath, time.Now).apply(tables); err != nil || changed != 0 {
		t.Errorf("%d frontends were changed once more (%v)", changed, err)
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
	if !errors.Is(err, bpf.ErrBound) {
		t.Fatalf("got %v, expected that a table is full", err)
	}
	if len(datapath.frontends) != 1 {
		t.Errorf("%d frontends are served, expected the one that fits", len(datapath.frontends))
	}
	owner := func(bpf.Frontend) string { return "Service a/web" }
	for _, p := range w.unserved.problems(owner) {
		if !strings.HasPrefix(p.Error(), "Service a/web: frontend 10.96.0.") || !strings.Contains(p.Message, " port 80/TCP: slots: ") {
			t.Errorf("got %q", p.Error())
		}
	}
	if want := "frontend 10.96.0."; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, expected %q", err, want)
	}
	delete(tables, frontend(1))
	if _, err := w.apply(tables); err == nil {
		return // It was frontend 2 that had room.
	}
	datapath.bounds = map[bpf.Table]uint32{bpf.TableSlots: 6}
	if _, err := w.apply(tables); err != nil || len(w.unserved) > 0 {
		t.Errorf("with room: %v", err)
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

// TestWriterRefusesLast looks after each write for ports that are refused, though they
// are about to be served.
func TestWriterRefusesLast(t *testing.T) {
	f := newFake(1000, 1000)
	w, err := newWriter(f, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tables := Tables{}
	for i := range byte(20) {
		addr := netip.AddrFrom4([4]byte{10, 96, 0, i})
		tables[bpf.Frontend{Addr: addr}] = Target{}
		for port := range uint16(3) {
			backend := bpf.Backend{Addr: netip.AddrFrom4([4]byte{10, 0, 0, i}), Port: 8080 + port}
			tables[bpf.Frontend{Addr: addr, Port: 80 + port, Protocol: bpf.ProtocolTCP}] = Target{Backends: []bpf.Backend{backend}}
		}
	}
	f.after = func() {
		for frontend := range tables {
			_, served := f.frontends[frontend]
			if _, refused := f.frontends[bpf.Frontend{Addr: frontend.Addr}]; refused && !served {
				t.Errorf("%v is refused", frontend)
			}
		}
	}
	if _, err := w.apply(tables); err != nil {
		t.Fatal(err)
	}
}
