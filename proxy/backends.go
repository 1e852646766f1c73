// SPDX-License-Identifier: Apache-2.0

package proxy

import "slipway.dev/slipway/bpf"

// backendIDs gives each backend that is in use an id, and takes it back when
// the last range that holds it is gone. It is not safe for concurrent use.
type backendIDs struct {
	capacity uint32
	next     uint32
	free     []uint32
	ids      map[bpf.Backend]uint32
	used     map[uint32]*backendUse
}

type backendUse struct {
	backend bpf.Backend
	count   int
}

func newBackendIDs(capacity uint32) *backendIDs {
	return &backendIDs{capacity: capacity, ids: map[bpf.Backend]uint32{}, used: map[uint32]*backendUse{}}
}

// use returns the id of a backend and whether it is new, and counts one use.
func (b *backendIDs) use(backend bpf.Backend) (id uint32, isNew bool, err error) {
	if id, ok := b.ids[backend]; ok {
		b.used[id].count++
		return id, false, nil
	}
	id, err = b.pick()
	if err != nil {
		return 0, false, err
	}
	b.ids[backend], b.used[id] = id, &backendUse{backend, 1}
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
		if b.used[id] == nil {
			return id, nil
		}
	}
	return 0, errFull
}

// adopt counts one use of a backend that the data path has already. An id
// that is known with another backend stays what it is.
func (b *backendIDs) adopt(id uint32, backend bpf.Backend) {
	if u := b.used[id]; u != nil {
		u.count++
		return
	}
	b.used[id] = &backendUse{backend, 1}
	if _, twice := b.ids[backend]; !twice {
		b.ids[backend] = id
	}
}

// release gives back one use of an id.
func (b *backendIDs) release(id uint32) {
	u := b.used[id]
	if u == nil {
		return
	}
	if u.count--; u.count > 0 {
		return
	}
	delete(b.used, id)
	if b.ids[u.backend] == id {
		delete(b.ids, u.backend)
	}
	// An id from next on is found again by pick itself.
	if id < b.next {
		b.free = append(b.free, id)
	}
}
