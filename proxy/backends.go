// SPDX-License-Identifier: Apache-2.0

package proxy

import "slipway.dev/slipway/bpf"

// backendIDs gives each backend that is in use an id, and takes it back when
// the last range that holds it is gone. It is not safe for concurrent use.
type backendIDs struct {
	capacity uint32
	next     uint32
	free     []uint32
	ids      map[backendKey]uint32
	// uses are by id; one that is not in use has a count of 0.
	uses []backendUse
	// used is how many are.
	used int
}

type backendUse struct {
	key   backendKey
	count uint32
}

// backendKey is a backend as small as can be and without pointers: there are many.
type backendKey struct {
	addr  [16]byte
	port  uint16
	flags bpf.BackendFlags
}

func keyOf(b bpf.Backend) backendKey { return backendKey{b.Addr.As16(), b.Port, b.Flags} }

func newBackendIDs(capacity uint32) *backendIDs {
	return &backendIDs{capacity: capacity, ids: map[backendKey]uint32{}}
}

// at is the use of an id below the capacity.
func (b *backendIDs) at(id uint32) *backendUse {
	if missing := int(id) + 1 - len(b.uses); missing > 0 {
		b.uses = append(b.uses, make([]backendUse, missing)...)
	}
	return &b.uses[id]
}

// enter gives an id to a backend, for its first use.
func (b *backendIDs) enter(id uint32, key backendKey) {
	*b.at(id) = backendUse{key, 1}
	b.used++
}

// use returns the id of a backend and whether it is new, and counts one use.
func (b *backendIDs) use(backend bpf.Backend) (id uint32, isNew bool, err error) {
	key := keyOf(backend)
	if id, ok := b.ids[key]; ok {
		b.at(id).count++
		return id, false, nil
	}
	id, err = b.pick()
	if err != nil {
		return 0, false, err
	}
	b.ids[key] = id
	b.enter(id, key)
	return id, true, nil
}

func (b *backendIDs) pick() (uint32, error) {
	if n := len(b.free); n > 0 {
		id := b.free[n-1]
		b.free = b.free[:n-1]
		return id, nil
	}
	// Ids that were adopted lie anywhere.
	for b.next < b.capacity {
		id := b.next
		b.next++
		if b.at(id).count == 0 {
			return id, nil
		}
	}
	return 0, errFull
}

// adopt counts one use of a backend that the data path has already. An id
// that is known with another backend stays what it is.
func (b *backendIDs) adopt(id uint32, backend bpf.Backend) {
	if u := b.at(id); u.count > 0 {
		u.count++
		return
	}
	key := keyOf(backend)
	b.enter(id, key)
	if _, twice := b.ids[key]; !twice {
		b.ids[key] = id
	}
}

// release gives back one use of an id.
func (b *backendIDs) release(id uint32) {
	u := b.at(id)
	if u.count == 0 {
		return
	}
	if u.count--; u.count > 0 {
		return
	}
	b.used--
	if b.ids[u.key] == id {
		delete(b.ids, u.key)
	}
	// An id from next on is found again by pick itself.
	if id < b.next {
		b.free = append(b.free, id)
	}
}
