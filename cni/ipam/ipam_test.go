// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestNew(t *testing.T) {
	tests := []struct {
		name  string
		cidrs []string
		want  []int // capacities; nil means an error
	}{
		{"dual stack", []string{"10.0.0.0/24", "fd00::/64"}, []int{253, 65534}},
		{"smallest", []string{"10.0.0.0/30", "fd00::/126"}, []int{1, 2}},
		{"large IPv4", []string{"10.0.0.0/8"}, []int{65534}},
		{"whole low bits", []string{"10.1.0.0/16"}, []int{65533}},
		{"only IPv6", []string{"fd00::/120"}, []int{254}},
		{"none", nil, nil},
		{"too small", []string{"10.0.0.0/31"}, nil},
		{"too small IPv6", []string{"fd00::/127"}, nil},
		{"two of a family", []string{"10.0.0.0/24", "10.1.0.0/24"}, nil},
		{"host bits set", []string{"10.0.0.1/24"}, nil},
		{"mapped", []string{"::ffff:10.0.0.0/120"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := New(prefixes(tt.cidrs...), newRandom(1))
			if (err != nil) != (tt.want == nil) {
				t.Fatalf("error %v, want capacities %v", err, tt.want)
			}
			if err != nil {
				return
			}
			var got []int
			for _, u := range a.Usage() {
				got = append(got, u.Capacity)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("capacities (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllocateUsesEveryAddressOnce(t *testing.T) {
	a, err := New(prefixes("10.0.0.248/29"), newRandom(7))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		addrs, err := a.Allocate()
		if errors.Is(err, ErrExhausted) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, addrs[0].String())
	}
	slices.Sort(got)
	// 248 is the network, 249 the gateway, 255 the broadcast address.
	want := []string{"10.0.0.250", "10.0.0.251", "10.0.0.252", "10.0.0.253", "10.0.0.254"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestFreedAddressIsUsedLast(t *testing.T) {
	a, err := New(prefixes("10.0.0.0/28"), newRandom(3))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := a.Allocate()
	second, _ := a.Allocate()
	a.Release(second)
	a.Release(first)
	for range 11 {
		addrs, err := a.Allocate()
		if err != nil {
			t.Fatal(err)
		}
		if addrs[0] == first[0] || addrs[0] == second[0] {
			t.Fatalf("%s was freed just now and is used before others", addrs[0])
		}
	}
	for _, want := range []netip.Addr{second[0], first[0]} {
		addrs, err := a.Allocate()
		if err != nil || addrs[0] != want {
			t.Fatalf("got %v, %v; want %s, which was freed first", addrs, err, want)
		}
	}
}

func TestExhaustedFamilyTakesNothing(t *testing.T) {
	a, err := New(prefixes("10.0.0.0/24", "fd00::/126"), newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.Allocate(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Allocate(); !errors.Is(err, ErrExhausted) {
		t.Fatalf("error %v, want %v", err, ErrExhausted)
	}
	if got := a.Usage()[0].Used; got != 2 {
		t.Errorf("%d IPv4 addresses in use, want 2", got)
	}
}

func TestReserve(t *testing.T) {
	a, err := New(prefixes("10.0.0.0/24", "fd00::/64"), newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	mine := []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::9")}
	if err := a.Reserve(mine); err != nil {
		t.Fatal(err)
	}
	other := []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("fd00::9")}
	if err := a.Reserve(other); !errors.Is(err, ErrInUse) {
		t.Errorf("error %v, want %v", err, ErrInUse)
	}
	// Of an earlier pod CIDR, and beyond the part of a large one that is used.
	foreign := []netip.Addr{netip.MustParseAddr("10.9.0.9"), netip.MustParseAddr("fd00::1:0:9")}
	if err := a.Reserve(foreign); err != nil {
		t.Errorf("reserve addresses outside: %v", err)
	}
	a.Release(foreign)
	for _, u := range a.Usage() {
		if u.Used != 1 {
			t.Errorf("%s: %d in use, want 1", u.CIDR, u.Used)
		}
	}
}

// TestSimulation allocates, releases and restarts at random and compares
// with a model that only knows which addresses are on disk.
func TestSimulation(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := newRandom(seed)
	for round := range 20 {
		cidrs := prefixes("10.244.0.0/28", "fd00:1::/124")
		if round%2 == 1 {
			cidrs = prefixes("10.244.1.0/24", "fd00:1::/64")
		}
		s := &simulation{t: t, random: random, cidrs: cidrs, disk: map[netip.Addr]bool{}}
		s.restart()
		for range 3000 {
			s.step()
		}
	}
}

type simulation struct {
	t      *testing.T
	random *rand.Rand
	cidrs  []netip.Prefix
	a      *Allocator
	pods   [][]netip.Addr
	disk   map[netip.Addr]bool
	// last is what was freed last since the restart.
	last []netip.Addr
}

func (s *simulation) restart() {
	a, err := New(s.cidrs, s.random)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, addrs := range s.pods {
		if err := a.Reserve(addrs); err != nil {
			s.t.Fatalf("reserve after restart: %v", err)
		}
	}
	s.a, s.last = a, nil
}

func (s *simulation) step() {
	switch n := s.random.IntN(100); {
	case n == 0:
		s.restart()
	case n < 55:
		s.allocate()
	case len(s.pods) > 0:
		i := s.random.IntN(len(s.pods))
		s.a.Release(s.pods[i])
		for _, addr := range s.pods[i] {
			delete(s.disk, addr)
		}
		s.last = s.pods[i]
		s.pods = slices.Delete(s.pods, i, i+1)
	}
	for i, u := range s.a.Usage() {
		if u.Used != len(s.pods) || u.CIDR != s.cidrs[i] {
			s.t.Fatalf("usage %+v with %d pods", u, len(s.pods))
		}
	}
}

func (s *simulation) allocate() {
	free := s.a.Usage()[0].Capacity - len(s.pods)
	if n := s.a.Usage()[1].Capacity - len(s.pods); n < free {
		free = n
	}
	addrs, err := s.a.Allocate()
	if (err == nil) != (free > 0) || (err != nil && !errors.Is(err, ErrExhausted)) {
		s.t.Fatalf("allocate with %d free: %v", free, err)
	}
	if err != nil {
		return
	}
	for i, addr := range addrs {
		if s.disk[addr] || !s.cidrs[i].Contains(addr) || addr == Gateway(s.cidrs[i]) || addr == s.cidrs[i].Addr() {
			s.t.Fatalf("allocated %s, which is in use or not for pods", addr)
		}
		if free > 1 && slices.Contains(s.last, addr) {
			s.t.Fatalf("allocated %s, which was freed just now, with %d free", addr, free)
		}
		s.disk[addr] = true
	}
	s.pods = append(s.pods, addrs)
}
