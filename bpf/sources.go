// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// ServiceRanges is the set of all addresses that cluster addresses are taken from.
// What is for one that no Service has does not leave the node.
const ServiceRanges = 0

// SetSources enters ranges of addresses into a set.
func (d *Datapath) SetSources(set uint32, ranges []netip.Prefix) error {
	for _, r := range ranges {
		if err := d.maps.Sources.Put(toSource(set, r), uint8(1)); err != nil {
			return fmt.Errorf("set source range %s: %w", r, err)
		}
	}
	return nil
}

// DeleteSources takes ranges out of a set; those that are not there are no
// error.
func (d *Datapath) DeleteSources(set uint32, ranges []netip.Prefix) error {
	for _, r := range ranges {
		if err := d.maps.Sources.Delete(toSource(set, r)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete source range %s: %w", r, err)
		}
	}
	return nil
}

// Sources returns all sets by their numbers.
func (d *Datapath) Sources() (map[uint32][]netip.Prefix, error) {
	out := map[uint32][]netip.Prefix{}
	var key uplinkSource
	var value uint8
	entries := d.maps.Sources.Iterate()
	for entries.Next(&key, &value) {
		addr, bits := fromAddr(key.Addr), int(key.Prefixlen)-32
		if addr.Is4() {
			bits -= 96
		}
		set := key.Set >> 1
		out[set] = append(out[set], netip.PrefixFrom(addr, bits))
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list source ranges: %w", err)
	}
	return out, nil
}

func toSource(set uint32, r netip.Prefix) uplinkSource {
	key := uplinkSource{Prefixlen: uint32(32 + r.Bits()), Set: set << 1, Addr: toAddr(r.Masked().Addr())}
	if r.Addr().Is4() {
		key.Prefixlen += 96
	} else {
		key.Set |= 1
	}
	return key
}
