// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"testing"
)

// TestRangesAgainstModel takes, reserves and gives at random and compares with
// one flag a slot.
func TestRangesAgainstModel(t *testing.T) {
	const capacity, rounds = 512, 20000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := newRanges(capacity)
	var taken [capacity]bool
	var held []span
	mark := func(first, count uint32, to bool) {
		for i := first; i < first+count; i++ {
			if taken[i] == to {
				t.Fatalf("slot %d is %v twice", i, to)
			}
			taken[i] = to
		}
	}
	for range rounds {
		switch rnd.IntN(3) {
		case 0:
			count := rnd.Uint32N(20) + 1
			if first, err := r.take(count); err == nil {
				mark(first, count, true)
				held = append(held, span{first, count})
			}
		case 1:
			first, count := rnd.Uint32N(capacity), rnd.Uint32N(10)+1
			if r.reserve(first, count) {
				mark(first, count, true)
				held = append(held, span{first, count})
			}
		default:
			if len(held) == 0 {
				continue
			}
			i := rnd.IntN(len(held))
			r.give(held[i].first, held[i].count)
			mark(held[i].first, held[i].count, false)
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		check(t, r, taken[:])
	}
}

func check(t *testing.T, r *ranges, taken []bool) {
	t.Helper()
	var used uint32
	for _, b := range taken {
		if b {
			used++
		}
	}
	if used != r.used {
		t.Fatalf("%d slots are used, expected %d", r.used, used)
	}
	last := int64(-1)
	for _, s := range r.free {
		if int64(s.first) <= last {
			t.Fatalf("free spans are not in order or not merged: %v", r.free)
		}
		last = int64(s.first) + int64(s.count)
		for i := s.first; i < s.first+s.count; i++ {
			if taken[i] {
				t.Fatalf("slot %d is free and taken", i)
			}
		}
	}
}

func TestReserveRefusesWhatIsNotThere(t *testing.T) {
	r := newRanges(10)
	for _, s := range []span{{8, 3}, {0, 0}, {4294967295, 2}} {
		if r.reserve(s.first, s.count) {
			t.Errorf("reserved %v of 10 slots", s)
		}
	}
}
