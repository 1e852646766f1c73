// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"hash/maphash"
	"slices"

	"slipway.dev/slipway/bpf"
)

// share is a range of slots. All frontends that lead to the same backends have one
// together: those of a Service port mostly do.
type share struct {
	backends []bpf.Backend
	// maglev tells that the slots are a Maglev table of the backends.
	maglev bool
	ids    []uint32
	// first and count are the range; count is 0 before there is one.
	first, count uint32
	// users are the frontends that lead to it, and those that did until a moment
	// ago.
	users int
}

// shares are those that more frontends may have, by a hash of their backends.
type shares struct {
	seed  maphash.Seed
	known map[uint64]*share
}

func newShares() *shares { return &shares{maphash.MakeSeed(), map[uint64]*share{}} }

func (s *shares) hash(backends []bpf.Backend, maglev bool) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	maphash.WriteComparable(&h, maglev)
	for _, b := range backends {
		maphash.WriteComparable(&h, b)
	}
	return h.Sum64()
}

// find returns the one with these backends, or nil.
func (s *shares) find(backends []bpf.Backend, maglev bool) *share {
	found := s.known[s.hash(backends, maglev)]
	if found != nil && found.maglev == maglev && slices.Equal(found.backends, backends) {
		return found
	}
	return nil
}

// add lets others have it, too, if there is none like it.
func (s *shares) add(one *share) {
	if h := s.hash(one.backends, one.maglev); s.known[h] == nil {
		s.known[h] = one
	}
}

func (s *shares) remove(one *share) {
	if h := s.hash(one.backends, one.maglev); s.known[h] == one {
		delete(s.known, h)
	}
}

// use returns a range that leads to backends, and counts one use. A new one is
// written before anybody can find it.
func (w *writer) use(backends []bpf.Backend, maglev bool) (*share, error) {
	if found := w.shares.find(backends, maglev); found != nil {
		found.users++
		return found, nil
	}
	fresh := &share{backends: backends, maglev: maglev, users: 1}
	if err := w.write(fresh); err != nil {
		w.drop(fresh)
		return nil, err
	}
	w.shares.add(fresh)
	return fresh, nil
}

func (w *writer) write(s *share) error {
	s.ids = make([]uint32, 0, len(s.backends))
	for _, backend := range s.backends {
		id, isNew, err := w.useBackend(backend)
		if err != nil {
			return err
		}
		s.ids = append(s.ids, id)
		if !isNew {
			continue
		}
		if err := w.datapath.SetBackend(id, backend); err != nil {
			return err
		}
	}
	slots := s.slots()
	first, err := w.takeSlots(uint32(len(slots)))
	if err != nil {
		return err
	}
	s.first, s.count = first, uint32(len(slots))
	return w.datapath.SetSlots(first, slots)
}

// slots are what the range holds.
func (s *share) slots() []uint32 {
	if s.maglev {
		return lookupSlots(s.backends, s.ids)
	}
	return s.ids
}

// release gives back one use. The range goes with its last one.
func (w *writer) release(s *share) {
	if s.users--; s.users > 0 {
		return
	}
	w.shares.remove(s)
	w.drop(s)
}

func (w *writer) drop(s *share) {
	if s.count > 0 {
		w.slots.give(s.first, s.count)
	}
	for _, id := range s.ids {
		w.ids.release(id)
	}
}

// adoptShare counts one use of a range that the data path has; known are those that
// were adopted before, by their first slots. One that overlaps another is nil: it is
// left alone until its frontend is written anew. So is one that leads to a backend
// that cannot be, or is no Maglev table as it would be made now, but its slots are in
// use until then.
func (w *writer) adoptShare(rng bpf.Range, known map[uint32]*share) (*share, error) {
	if s := known[rng.First]; s != nil && s.count == rng.Count && s.maglev == rng.Maglev {
		s.users++
		return s, nil
	}
	if !w.slots.reserve(rng.First, rng.Count) {
		return nil, nil
	}
	s := &share{backends: unknown, maglev: rng.Maglev, first: rng.First, count: rng.Count, users: 1}
	known[rng.First] = s
	slots, err := w.datapath.Slots(rng.First, rng.Count)
	if err != nil || slices.ContainsFunc(slots, func(id uint32) bool { return id >= w.ids.capacity }) {
		return s, err
	}
	if err := w.adoptBackends(s, slots); err != nil {
		return nil, err
	}
	if !slices.Equal(slots, s.slots()) {
		s.backends = unknown
		return s, nil
	}
	w.shares.add(s)
	return s, nil
}

// adoptBackends reads those that slots lead to; of a Maglev table each once, in the
// order of targets.
func (w *writer) adoptBackends(s *share, slots []uint32) error {
	ids := slots
	if s.maglev {
		ids = slices.Compact(slices.Sorted(slices.Values(slots)))
	}
	at := map[uint32]bpf.Backend{}
	for _, id := range ids {
		backend, err := w.datapath.Backend(id)
		if err != nil {
			return err
		}
		w.ids.adopt(id, backend)
		at[id] = backend
	}
	if s.maglev {
		slices.SortFunc(ids, func(a, b uint32) int { return compareBackends(at[a], at[b]) })
	}
	s.ids, s.backends = ids, nil
	for _, id := range ids {
		s.backends = append(s.backends, at[id])
	}
	return nil
}
