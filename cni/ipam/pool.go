// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// firstPod is the number of a CIDR's first pod address: 0 is the network (in
// IPv6 the subnet-router anycast address, RFC 4291 section 2.6.1), 1 the
// gateway.
const firstPod = 2

// maxHostBits keeps the addresses of a large CIDR short: only its first
// 65536 are used, many times what a node can run.
const maxHostBits = 16

// Gateway returns the node's own address in a pod CIDR, the first usable.
func Gateway(cidr netip.Prefix) netip.Addr {
	return cidr.Masked().Addr().Next()
}

// pool is the addresses of one CIDR, as numbers from firstPod on.
type pool struct {
	cidr     netip.Prefix
	capacity int
	inUse    int

	// Addresses that were never used are taken first, in ascending order
	// from start and round the end; fresh counts how many of them have
	// been passed.
	start, fresh int
	// state is true for an address in use and false for one in freed.
	state map[int]bool
	// freed is the addresses that were used before, longest free first.
	freed []int
}

func newPool(cidr netip.Prefix, random *rand.Rand) (*pool, error) {
	if !cidr.IsValid() || cidr != cidr.Masked() || cidr.Addr().Is4In6() {
		return nil, errors.New("not a network")
	}
	hostBits := cidr.Addr().BitLen() - cidr.Bits()
	if hostBits < 2 {
		return nil, fmt.Errorf("too small, the longest prefix is /%d", cidr.Addr().BitLen()-2)
	}
	capacity := 1<<min(hostBits, maxHostBits) - firstPod
	if cidr.Addr().Is4() && hostBits <= maxHostBits {
		capacity-- // The last is the broadcast address.
	}
	return &pool{cidr: cidr, capacity: capacity, start: random.IntN(capacity), state: map[int]bool{}}, nil
}

func (p *pool) free() int { return p.capacity - p.inUse }

func (p *pool) used(n int) bool { return p.state[n] }

// take uses a free address; there must be one.
func (p *pool) take() netip.Addr {
	for p.fresh < p.capacity {
		n := firstPod + (p.start+p.fresh)%p.capacity
		p.fresh++
		if _, seen := p.state[n]; !seen {
			p.reserve(n)
			return p.addr(n)
		}
	}
	n := p.freed[0]
	p.reserve(n)
	return p.addr(n)
}

func (p *pool) reserve(n int) {
	if _, seen := p.state[n]; seen {
		p.unqueue(n)
	}
	p.state[n] = true
	p.inUse++
}

func (p *pool) release(n int) {
	p.state[n] = false
	p.inUse--
	p.freed = append(p.freed, n)
}

// unqueue takes a number out of the queue; it is at the front unless it was
// asked for by address.
func (p *pool) unqueue(n int) {
	if p.freed[0] == n {
		p.freed = p.freed[1:]
		return
	}
	p.freed = slices.DeleteFunc(p.freed, func(other int) bool { return other == n })
}

// addr returns the address with a number.
func (p *pool) addr(n int) netip.Addr {
	raw := p.cidr.Addr().AsSlice()
	low := raw[len(raw)-2:]
	binary.BigEndian.PutUint16(low, binary.BigEndian.Uint16(low)|uint16(n))
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// number returns the number of an address that pods can have.
func (p *pool) number(addr netip.Addr) (int, bool) {
	if !p.cidr.Contains(addr) {
		return 0, false
	}
	raw, base := addr.AsSlice(), p.cidr.Addr().AsSlice()
	n := int(binary.BigEndian.Uint16(raw[len(raw)-2:]) &^ binary.BigEndian.Uint16(base[len(base)-2:]))
	if n < firstPod || n >= firstPod+p.capacity || p.addr(n) != addr {
		return 0, false
	}
	return n, true
}
