// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strings"
)

// Summary says what is attached, for status output.
type Summary struct {
	// Sock, Pods and Uplinks count the pinned links: socket hooks, pod
	// interfaces and uplinks.
	Sock, Pods, Uplinks int
	// Drops are the packets that were dropped, by reason, none left out.
	Drops map[DropReason]uint64
}

// Summary reads what is attached now.
func (d *Datapath) Summary() (Summary, error) {
	names, err := d.pins()
	if err != nil {
		return Summary{}, err
	}
	var s Summary
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "sock_"):
			s.Sock++
		case strings.HasPrefix(name, "pod_from_"):
			s.Pods++
		case strings.HasPrefix(name, "uplink_in_"):
			s.Uplinks++
		}
	}
	s.Drops, err = d.Drops()
	return s, err
}
