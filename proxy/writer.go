// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"slipway.dev/slipway/bpf"
)

// grace is how long slots and backends stay as they are after the last
// frontend has left them: a program that has read the old range is done with
// it within microseconds.
const grace = 2 * time.Second

// Datapath is the part of *bpf.Datapath that the writer writes.
type Datapath interface {
	SetFrontend(bpf.Frontend, bpf.Range) error
	DeleteFrontend(bpf.Frontend) error
	Frontends() (map[bpf.Frontend]bpf.Range, error)
	SetSlots(first uint32, ids []uint32) error
	Slots(first, count uint32) ([]uint32, error)
	SetBackend(id uint32, b bpf.Backend) error
	Backend(id uint32) (bpf.Backend, error)
	SetSources(set uint32, ranges []netip.Prefix) error
	DeleteSources(set uint32, ranges []netip.Prefix) error
	Sources() (map[uint32][]netip.Prefix, error)
	// Capacity is how many entries a table has room for; Grow makes it larger.
	Capacity(bpf.Table) uint32
	Grow(table bpf.Table, least uint32) (uint32, error)
}

// desired is what the data path is to be equal to.
type desired interface {
	// at is where a frontend is to lead, if there is to be one.
	at(bpf.Frontend) (Target, bool)
	all() iter.Seq[bpf.Frontend]
	count() int
}

// unknown are backends that no table has, so that they differ from all.
var unknown = []bpf.Backend{{}}

// entry is a frontend as it is in the data path.
type entry struct {
	rng bpf.Range
	// share is the range that it leads to; nil without backends, and when those are
	// unknown.
	share *share
}

func (e entry) backends() []bpf.Backend {
	switch {
	case e.share != nil:
		return e.share.backends
	case e.rng.Count > 0:
		return unknown
	}
	return nil
}

// retired is what an update has left behind.
type retired struct {
	at    time.Time
	entry entry
}

// writer keeps the data path equal to the tables. Only one goroutine may use
// it, and only one writer a data path.
type writer struct {
	datapath Datapath
	now      func() time.Time
	entries  map[bpf.Frontend]entry
	slots    *ranges
	ids      *backendIDs
	shares   *shares
	sources  *sourceSets
	retired  []retired
	// unserved are the frontends whose last write failed.
	unserved unserved
	// wanted is how many frontends there are to be.
	wanted uint32
}

// newWriter adopts what the data path serves already; nothing is changed.
func newWriter(datapath Datapath, now func() time.Time) (*writer, error) {
	w := &writer{
		datapath: datapath, now: now, entries: map[bpf.Frontend]entry{}, shares: newShares(), unserved: unserved{},
		slots: newRanges(datapath.Capacity(bpf.TableSlots)), ids: newBackendIDs(datapath.Capacity(bpf.TableBackends)),
	}
	var err error
	if w.sources, err = newSourceSets(datapath); err != nil {
		return nil, fmt.Errorf("adopt data path: %w", err)
	}
	known, err := datapath.Frontends()
	if err != nil {
		return nil, fmt.Errorf("adopt data path: %w", err)
	}
	adopted := map[uint32]*share{}
	for frontend, rng := range known {
		e, err := w.adopt(rng, adopted)
		if err != nil {
			return nil, fmt.Errorf("adopt frontend %v: %w", frontend, err)
		}
		w.entries[frontend] = e
	}
	return w, nil
}

// adopt reads a range. One that makes no sense is of backends that no table has, so
// that the first apply writes its frontend anew.
func (w *writer) adopt(rng bpf.Range, known map[uint32]*share) (entry, error) {
	w.sources.adopt(rng.Sources)
	e := entry{rng: rng}
	if rng.Count == 0 {
		return e, nil
	}
	var err error
	e.share, err = w.adoptShare(rng, known)
	return e, err
}

// leads tells whether an entry is as it should be.
func (w *writer) leads(e entry, to Target) bool {
	r := e.rng
	return r.Affinity == to.Affinity && r.Service == to.Service && r.Silent == to.Silent && r.Maglev == to.Maglev && r.Direct == to.Direct &&
		slices.Equal(e.backends(), to.Backends) && w.sources.has(r.Sources, to.Sources)
}

// apply brings the data path to the tables: new and changed frontends first,
// then those that are gone. A frontend that fails keeps what it had; the
// others go on. It returns how many frontends were changed.
func (w *writer) apply(to desired) (int, error) {
	clear(w.unserved)
	changed, err := w.update(to, w.either(to))
	if err == nil {
		w.sources.sweep()
	}
	return changed, err
}

// either are the frontends that are there or are to be.
func (w *writer) either(to desired) iter.Seq[bpf.Frontend] {
	return func(yield func(bpf.Frontend) bool) {
		for frontend := range to.all() {
			if !yield(frontend) {
				return
			}
		}
		for frontend := range w.entries {
			if _, wanted := to.at(frontend); !wanted && !yield(frontend) {
				return
			}
		}
	}
}

// update is apply for some frontends; the data path has the others already.
func (w *writer) update(to desired, frontends iter.Seq[bpf.Frontend]) (int, error) {
	w.collect()
	w.expect(uint32(to.count()))
	// What refuses all other ports of an address comes last: it would refuse those that
	// are not there yet, also where another proxy serves them until then.
	changed := w.put(to, frontends, false) + w.put(to, frontends, true)
	for frontend := range frontends {
		e, known := w.entries[frontend]
		if _, wanted := to.at(frontend); wanted || !known {
			continue
		}
		if err := w.datapath.DeleteFrontend(frontend); err != nil {
			w.unserved[frontend] = err
			continue
		}
		delete(w.entries, frontend)
		w.retire(e)
		changed++
	}
	return changed, w.unserved.err()
}

// put sets the frontends that are not as they should be: those for all other ports of
// an address, or all but those. It returns how many it has changed.
func (w *writer) put(to desired, frontends iter.Seq[bpf.Frontend], otherPorts bool) int {
	changed := 0
	for frontend := range frontends {
		if frontend.Port == 0 != otherPorts {
			continue
		}
		target, wanted := to.at(frontend)
		have, known := w.entries[frontend]
		delete(w.unserved, frontend)
		if !wanted || known && w.leads(have, target) {
			continue
		}
		if err := w.set(frontend, target); err != nil {
			w.unserved[frontend] = err
			continue
		}
		changed++
	}
	return changed
}

// set has a range that leads to the backends, a new one if need be, and flips the
// frontend.
func (w *writer) set(frontend bpf.Frontend, target Target) error {
	old, known := w.entries[frontend]
	fresh := entry{rng: bpf.Range{
		Generation: old.rng.Generation + 1, Affinity: target.Affinity, Service: target.Service,
		Silent: target.Silent, Maglev: target.Maglev, Direct: target.Direct,
	}}
	err := w.fill(&fresh, target)
	if err == nil && !known {
		err = w.room()
	}
	if err != nil {
		w.free(fresh)
		return err
	}
	if err := w.datapath.SetFrontend(frontend, fresh.rng); err != nil {
		// Nobody has seen the new range.
		w.free(fresh)
		return err
	}
	w.entries[frontend] = fresh
	if known {
		w.retire(old)
	}
	return nil
}

func (w *writer) fill(e *entry, target Target) error {
	var err error
	if e.rng.Sources, err = w.sources.use(target.Sources); err != nil {
		return err
	}
	if len(target.Backends) == 0 {
		return nil
	}
	if e.share, err = w.use(target.Backends, target.Maglev); err != nil {
		return err
	}
	e.rng.First, e.rng.Count = e.share.first, e.share.count
	return nil
}

func (w *writer) retire(e entry) {
	if e.share != nil || e.rng.Sources > 0 {
		w.retired = append(w.retired, retired{w.now(), e})
	}
}

// collect frees what was retired long enough ago.
func (w *writer) collect() {
	for len(w.retired) > 0 && w.now().Sub(w.retired[0].at) >= grace {
		w.free(w.retired[0].entry)
		w.retired = w.retired[1:]
	}
}

func (w *writer) free(e entry) {
	if e.share != nil {
		w.release(e.share)
	}
	w.sources.release(e.rng.Sources)
}
