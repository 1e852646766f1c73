// SPDX-License-Identifier: Apache-2.0

package bpf

import "fmt"

// DropReason says why the data path dropped a packet. The numbers are those of
// enum drop_reason in lib/types.h.
type DropReason uint32

// dropReasons are the label values of the reasons, by number.
var dropReasons = [...]string{
	"none", "invalid", "spoofed", "no_endpoint", "remote_backend", "conntrack_conflict", "rewrite", "fib", "snat_ports_exhausted",
	"source_range", "direct_return", "fragment", "too_big",
}

// String returns the reason as metrics and status name it.
func (r DropReason) String() string {
	if int(r) < len(dropReasons) {
		return dropReasons[r]
	}
	return fmt.Sprintf("reason_%d", uint32(r))
}

// Drops returns how many packets were dropped since the maps were made, by
// reason, over all CPUs. Reasons without drops are there, too.
func (d *Datapath) Drops() (map[DropReason]uint64, error) {
	out := map[DropReason]uint64{}
	for i := uint32(1); i < d.maps.Drops.MaxEntries(); i++ {
		var perCPU []uint64
		if err := d.maps.Drops.Lookup(i, &perCPU); err != nil {
			return nil, fmt.Errorf("read drop counters: %w", err)
		}
		for _, n := range perCPU {
			out[DropReason(i)] += n
		}
	}
	return out, nil
}
