// SPDX-License-Identifier: Apache-2.0

package maglev

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func backends(n int) []netip.AddrPort {
	out := make([]netip.AddrPort, n)
	for i := range out {
		out[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), 8080)
	}
	return out
}

// named is a table with backends in place of their indexes.
func named(from []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, Size)
	for _, i := range Table(from) {
		out = append(out, from[i])
	}
	return out
}

func TestSizeIsPrime(t *testing.T) {
	for i := 2; i*i <= Size; i++ {
		if Size%i == 0 {
			t.Fatalf("%d is divisible by %d", Size, i)
		}
	}
}

func TestTableBalance(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100, 1000, Size} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			count := make([]int, n)
			for _, i := range Table(backends(n)) {
				count[i]++
			}
			if least, most := slices.Min(count), slices.Max(count); least != Size/n || most > Size/n+1 {
				t.Errorf("backends have %d to %d of %d entries", least, most, Size)
			}
		})
	}
}

// Which backend has an entry depends on the set of backends alone.
func TestTableOrder(t *testing.T) {
	from := append(backends(50), netip.MustParseAddrPort("[fd00::1]:8080"), netip.MustParseAddrPort("10.244.0.1:8081"))
	want := named(from)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		rnd.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		if diff := cmp.Diff(want, named(from), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	}
}

// The table is the same in every release.
func TestTableStays(t *testing.T) {
	if diff := cmp.Diff([]int{2, 0, 2, 2, 2, 2, 2, 1, 2, 2}, Table(backends(3))[:10]); diff != "" {
		t.Error(diff)
	}
}

// Few of the other entries move when a backend goes or comes.
func TestTableDisruption(t *testing.T) {
	for _, n := range []int{2, 10, 50, 100} {
		from := backends(n)
		before := named(from)
		for i := range n {
			after := named(slices.Concat(from[:i], from[i+1:]))
			moved := 0
			for entry, backend := range before {
				if backend != from[i] && after[entry] != backend {
					moved++
				}
			}
			if share := float64(moved) / Size; share > 0.1 {
				t.Errorf("without backend %d of %d, %.1f %% of the entries of others lead elsewhere", i, n, 100*share)
			}
		}
	}
}

func TestTableLimits(t *testing.T) {
	for _, n := range []int{0, Size + 1} {
		if table := Table(backends(n)); table != nil {
			t.Errorf("%d backends have a table of %d entries", n, len(table))
		}
	}
}

func BenchmarkTable(b *testing.B) {
	from := backends(100)
	for b.Loop() {
		Table(from)
	}
}
