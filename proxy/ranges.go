// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"errors"
	"slices"
)

// errFull says that a table of the data path has no room.
var errFull = errors.New("the table of the data path is full")

// span is a run of slots that are free.
type span struct{ first, count uint32 }

// ranges hands out contiguous ranges of slots, first fit. It is not safe for
// concurrent use.
type ranges struct {
	// free holds the free spans in order; neighbours are merged.
	free           []span
	capacity, used uint32
}

func newRanges(capacity uint32) *ranges {
	return &ranges{free: []span{{0, capacity}}, capacity: capacity}
}

// extend adds slots at the end; a capacity that is not larger adds none.
func (r *ranges) extend(capacity uint32) {
	if capacity <= r.capacity {
		return
	}
	first, more := r.capacity, capacity-r.capacity
	r.capacity = capacity
	r.used += more // until they are given
	r.give(first, more)
}

// take returns the first slot of a range of count slots, count > 0.
func (r *ranges) take(count uint32) (uint32, error) {
	for i, s := range r.free {
		if s.count < count {
			continue
		}
		r.free[i] = span{s.first + count, s.count - count}
		if r.free[i].count == 0 {
			r.free = slices.Delete(r.free, i, i+1)
		}
		r.used += count
		return s.first, nil
	}
	return 0, errFull
}

// reserve takes a certain range, and tells whether it was free as a whole.
func (r *ranges) reserve(first, count uint32) bool {
	i := slices.IndexFunc(r.free, func(s span) bool {
		return s.first <= first && uint64(first)+uint64(count) <= uint64(s.first)+uint64(s.count)
	})
	if i < 0 || count == 0 {
		return false
	}
	s := r.free[i]
	var rest []span
	if first > s.first {
		rest = append(rest, span{s.first, first - s.first})
	}
	if end := s.first + s.count; first+count < end {
		rest = append(rest, span{first + count, end - first - count})
	}
	r.free = slices.Replace(r.free, i, i+1, rest...)
	r.used += count
	return true
}

// give returns a range that was taken or reserved.
func (r *ranges) give(first, count uint32) {
	i, _ := slices.BinarySearchFunc(r.free, first, func(s span, first uint32) int { return cmp.Compare(s.first, first) })
	r.free = slices.Insert(r.free, i, span{first, count})
	r.used -= count
	if i+1 < len(r.free) && r.free[i].first+r.free[i].count == r.free[i+1].first {
		r.free[i].count += r.free[i+1].count
		r.free = slices.Delete(r.free, i+1, i+2)
	}
	if i > 0 && r.free[i-1].first+r.free[i-1].count == r.free[i].first {
		r.free[i-1].count += r.free[i].count
		r.free = slices.Delete(r.free, i, i+1)
	}
}
