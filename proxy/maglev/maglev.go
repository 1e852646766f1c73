// SPDX-License-Identifier: Apache-2.0

// Package maglev makes the lookup tables that spread connections over backends in
// the same way on all nodes, and mostly in the same way after some backends came
// or went (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load
// Balancer", NSDI 2016). It is pure computation: the same backends give the same
// table, on every node and in every release. Its functions may be used from any
// goroutine.
package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Size is how many entries a table has. It is prime, so that every step walks
// through all of them. With up to ten backends none has over 1 % more than its
// share; with a hundred each has 10 or 11 entries. The data path has room for a
// thousand tables of this size, four times as many as with the next size that
// papers and others use (4093 or 4099).
const Size = 1021

// Table returns for each entry the index of the backend that it leads to. The
// order of the backends does not matter to which of them has an entry; none may
// be there twice. There is no table of no backends or of more than Size.
func Table(backends []netip.AddrPort) []int {
	if len(backends) == 0 || len(backends) > Size {
		return nil
	}
	order := make([]int, len(backends))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return backends[a].Compare(backends[b]) })
	walks := make([]walk, len(order))
	for i, backend := range order {
		walks[i] = newWalk(backends[backend])
	}
	table := slices.Repeat([]int{-1}, Size)
	for filled := 0; ; {
		for i, backend := range order {
			table[walks[i].free(table)] = backend
			if filled++; filled == Size {
				return table
			}
		}
	}
}

// walk goes through all entries of a table in an order of a backend's own.
type walk struct{ at, step uint64 }

func newWalk(backend netip.AddrPort) walk {
	addr := backend.Addr().As16()
	sum := sha256.Sum256(binary.BigEndian.AppendUint16(addr[:], backend.Port()))
	return walk{binary.BigEndian.Uint64(sum[:]) % Size, binary.BigEndian.Uint64(sum[8:])%(Size-1) + 1}
}

// free returns the next entry that nobody has.
func (w *walk) free(table []int) uint64 {
	for {
		at := w.at
		w.at = (w.at + w.step) % Size
		if table[at] < 0 {
			return at
		}
	}
}
