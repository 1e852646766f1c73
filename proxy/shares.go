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
	ids      []uint32
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

func (s *shares) hash(backends []bpf.Backend) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, b := range backends {
		maphash.WriteComparable(&h, b)
	}
	return h.Sum64()
}

// find returns the one with these backends, or nil.
func (s *shares) find(backends []bpf.Backend) *share {
	if found := s.known[s.hash(backends)]; found != nil && slices.Equal(found.backends, backends) {
		return found
	}
	return nil
}

// add lets others have it, too, if there is none like it.
func (s *shares) add(one *share) {
	if h := s.hash(one.backends); s.known[h] == nil {
		s.known[h] = one
	}
}

func (s *shares) remove(one *share) {
	if h := s.hash(one.backends); s.known[h] == one {
		delete(s.known, h)
	}
}

// use returns a range that leads to backends, and counts one use. A new one is
// written before anybody can find it.
func (w *writer) use(backends []bpf.Backend) (*share, error) {
	if found := w.shares.find(backends); found != nil {
		found.users++
		return found, nil
	}
	fresh := &share{backends: backends, users: 1}
	if err := w.write(fresh); err != nil {
		w.drop(fresh)
		return nil, err
	}
	w.shares.add(fresh)
	return fresh, nil
}

func (w *writer) write(s *share) error {
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
	first, err := w.takeSlots(uint32(len(s.ids)))
	if err != nil {
		return err
	}
	s.first, s.count = first, uint32(len(s.ids))
	return w.datapath.SetSlots(first, s.ids)
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
// that cannot be, but its slots are in use until then.
func (w *writer) adoptShare(rng bpf.Range, known map[uint32]*share) (*share, error) {
	if s := known[rng.First]; s != nil && s.count == rng.Count {
		s.users++
		return s, nil
	}
	if !w.slots.reserve(rng.First, rng.Count) {
		return nil, nil
	}
	s := &share{backends: unknown, first: rng.First, count: rng.Count, users: 1}
	known[rng.First] = s
	ids, err := w.datapath.Slots(rng.First, rng.Count)
	if err != nil || slices.ContainsFunc(ids, func(id uint32) bool { return id >= w.ids.capacity }) {
		return s, err
	}
	s.ids, s.backends = ids, nil
	for _, id := range ids {
		backend, err := w.datapath.Backend(id)
		if err != nil {
			return nil, err
		}
		w.ids.adopt(id, backend)
		s.backends = append(s.backends, backend)
	}
	w.shares.add(s)
	return s, nil
}
