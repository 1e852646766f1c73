// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"slipway.dev/slipway/bpf"
)

// hashClient is hash_client of lib/hash.h.
func hashClient(f bpf.Frontend, client netip.AddrPort) uint32 {
	from, to := words(client.Addr()), words(f.Addr)
	state := lookup3{0xdeadbeef, 0xdeadbeef, 0xdeadbeef}
	state.mix(from[0], from[1], from[2])
	state.mix(from[3], to[0], to[1])
	state.mix(to[2], to[3], uint32(client.Port())<<16|uint32(f.Port))
	return state.final(uint32(f.Protocol))
}

func words(a netip.Addr) (out [4]uint32) {
	wire := a.As16()
	for i := range out {
		out[i] = binary.NativeEndian.Uint32(wire[4*i:])
	}
	return out
}

type lookup3 struct{ a, b, c uint32 }

func (s *lookup3) mix(x, y, z uint32) {
	a, b, c := s.a+x, s.b+y, s.c+z
	for _, by := range [][3]int{{4, 6, 8}, {16, 19, 4}} {
		a -= c
		a ^= bits.RotateLeft32(c, by[0])
		c += b
		b -= a
		b ^= bits.RotateLeft32(a, by[1])
		a += c
		c -= b
		c ^= bits.RotateLeft32(b, by[2])
		b += a
	}
	s.a, s.b, s.c = a, b, c
}

func (s *lookup3) final(x uint32) uint32 {
	a, b, c := s.a+x, s.b, s.c
	for _, step := range []struct {
		to, from *uint32
		by       int
	}{{&c, &b, 14}, {&a, &c, 11}, {&b, &a, 25}, {&c, &b, 16}, {&a, &c, 4}, {&b, &a, 14}, {&c, &b, 24}} {
		*step.to ^= *step.from
		*step.to -= bits.RotateLeft32(*step.from, step.by)
	}
	return c
}
