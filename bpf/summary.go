// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"slices"
	"strings"
)

// Summary says what is attached, for status output.
type Summary struct {
	// Sock and Pods count the pinned links: socket hooks and pod interfaces.
	Sock, Pods int
	// Uplinks are the uplinks that have programs, and whether XDP is among
	// them, by the index of the interface.
	Uplinks map[int]bool
	// Drops are the packets that were dropped, by reason, none left out.
	Drops map[DropReason]uint64
}

// Summary reads what is attached now.
func (d *Datapath) Summary() (Summary, error) {
	names, err := d.pins()
	if err != nil {
		return Summary{}, err
	}
	s := Summary{Uplinks: map[int]bool{}}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "sock_"):
			s.Sock++
		case strings.HasPrefix(name, "pod_from_"):
			s.Pods++
		case strings.HasPrefix(name, "uplink_in_"):
			if index, ok := pinIndex("uplink_in", name); ok {
				s.Uplinks[index] = slices.Contains(names, pinName("wire", index))
			}
		}
	}
	s.Drops, err = d.Drops()
	return s, err
}
