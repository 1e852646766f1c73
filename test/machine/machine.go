// SPDX-License-Identifier: Apache-2.0

// Package machine tells what a node could leave behind on its machine: it
// takes a snapshot of processes, network, mounts, cgroups, BPF objects,
// kernel settings and files, and compares two. It changes nothing. A snapshot
// has words and names only, no process ids, counters or ages, so that two of
// an unchanged machine are equal. Functions may be called concurrently.
package machine

import (
	"errors"
	"fmt"
	"slices"
)

// Kind is a kind of thing that a machine has.
type Kind string

// What a snapshot holds.
const (
	Processes  Kind = "process"
	Links      Kind = "interface"
	Addresses  Kind = "address"
	Namespaces Kind = "network namespace"
	Mounts     Kind = "mount"
	Loops      Kind = "loop device"
	Cgroups    Kind = "cgroup"
	Pins       Kind = "pinned BPF object"
	Programs   Kind = "BPF program"
	Maps       Kind = "BPF map"
	Attached   Kind = "BPF attachment"
	Routes     Kind = "route"
	Firewall   Kind = "firewall"
	Sysctls    Kind = "sysctl"
	Files      Kind = "file"
	Sockets    Kind = "listening socket"
)

// State is a machine at one time: a line of text for each thing, by kind.
type State map[Kind][]string

// collectors take the snapshot, one kind each.
func collectors() map[Kind]func() ([]string, error) {
	return map[Kind]func() ([]string, error){
		Processes: processes, Links: links, Addresses: addresses, Namespaces: namespaces, Mounts: mounts,
		Loops: loops, Cgroups: cgroups, Pins: pins, Programs: programs, Maps: maps, Attached: attached,
		Routes: routes, Firewall: firewall, Sysctls: sysctls, Files: files, Sockets: sockets,
	}
}

// Snapshot describes the machine as it is now. It needs root. The error holds
// every kind that could not be read.
func Snapshot() (State, error) {
	state := State{}
	var errs []error
	for kind, collect := range collectors() {
		lines, err := collect()
		if err != nil {
			errs = append(errs, fmt.Errorf("snapshot of each %s: %w", kind, err))
			continue
		}
		slices.Sort(lines)
		state[kind] = lines
	}
	return state, errors.Join(errs...)
}

// Without returns the state without some kinds.
func (s State) Without(kinds ...Kind) State {
	rest := State{}
	for kind, lines := range s {
		if !slices.Contains(kinds, kind) {
			rest[kind] = lines
		}
	}
	return rest
}

// Diff tells what the machine has after that it had not before, with a plus,
// and what it has lost, with a minus. It is empty for equal states.
func Diff(before, after State) []string {
	var diff []string
	for _, kind := range kinds(before, after) {
		for _, line := range missing(after[kind], before[kind]) {
			diff = append(diff, fmt.Sprintf("- %s: %s", kind, line))
		}
		for _, line := range missing(before[kind], after[kind]) {
			diff = append(diff, fmt.Sprintf("+ %s: %s", kind, line))
		}
	}
	return diff
}

func kinds(states ...State) []Kind {
	var all []Kind
	for _, state := range states {
		for kind := range state {
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// missing returns the lines of want that have lacks, each as often as it
// lacks them.
func missing(have, want []string) []string {
	count := map[string]int{}
	for _, line := range have {
		count[line]++
	}
	var out []string
	for _, line := range want {
		if count[line]--; count[line] < 0 {
			out = append(out, line)
		}
	}
	return out
}
