// SPDX-License-Identifier: Apache-2.0

// Package ipam hands out the pod addresses of one node: one address of each
// of its pod CIDRs to a pod. It owns which addresses are in use, in memory
// only; whoever keeps attachments on disk reserves their addresses again
// after a restart. It does no I/O. An Allocator may be used from any
// goroutine.
package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
)

var (
	// ErrExhausted says that a pod CIDR has no free address.
	ErrExhausted = errors.New("no free address")
	// ErrInUse says that an address belongs to another pod.
	ErrInUse = errors.New("address in use")
)

// Allocator hands out addresses. A freed address is used again only after
// every other free address, so that peers that still know its last pod do
// not reach a new one.
type Allocator struct {
	mu    sync.Mutex
	pools []*pool
}

// New makes an allocator for one CIDR of each family at most. Random decides
// where it starts: after a restart it does not know which addresses were
// freed last.
func New(cidrs []netip.Prefix, random *rand.Rand) (*Allocator, error) {
	a := &Allocator{}
	families := map[bool]bool{}
	for _, cidr := range cidrs {
		p, err := newPool(cidr, random)
		if err != nil {
			return nil, fmt.Errorf("pod cidr %s: %w", cidr, err)
		}
		if families[cidr.Addr().Is4()] {
			return nil, fmt.Errorf("pod cidr %s: another one has the same family", cidr)
		}
		families[cidr.Addr().Is4()] = true
		a.pools = append(a.pools, p)
	}
	if len(a.pools) == 0 {
		return nil, errors.New("no pod cidr")
	}
	return a, nil
}

// Allocate returns a free address of each pod CIDR, in their order. It fails
// with ErrExhausted, and then takes none.
func (a *Allocator) Allocate() ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pools {
		if p.free() == 0 {
			return nil, fmt.Errorf("allocate address in %s: %w", p.cidr, ErrExhausted)
		}
	}
	var addrs []netip.Addr
	for _, p := range a.pools {
		addrs = append(addrs, p.take())
	}
	return addrs, nil
}

// Reserve takes the given addresses. It fails with ErrInUse when a pod has
// one of them, and then takes none. Addresses outside of the pod CIDRs, which
// may have been changed, are passed over.
func (a *Allocator) Reserve(addrs []netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range addrs {
		if p, n, ok := a.find(addr); ok && p.used(n) {
			return fmt.Errorf("reserve address %s: %w", addr, ErrInUse)
		}
	}
	for _, addr := range addrs {
		if p, n, ok := a.find(addr); ok {
			p.reserve(n)
		}
	}
	return nil
}

// Release frees the addresses. Those that are not in use are passed over.
func (a *Allocator) Release(addrs []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range addrs {
		if p, n, ok := a.find(addr); ok && p.used(n) {
			p.release(n)
		}
	}
}

func (a *Allocator) find(addr netip.Addr) (*pool, int, bool) {
	for _, p := range a.pools {
		if n, ok := p.number(addr); ok {
			return p, n, true
		}
	}
	return nil, 0, false
}

// Usage of one pod CIDR, in addresses.
type Usage struct {
	CIDR           netip.Prefix
	Used, Capacity int
}

// Usage returns how full each pod CIDR is, in their order.
func (a *Allocator) Usage() []Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	var usage []Usage
	for _, p := range a.pools {
		usage = append(usage, Usage{CIDR: p.cidr, Used: p.inUse, Capacity: p.capacity})
	}
	return usage
}
