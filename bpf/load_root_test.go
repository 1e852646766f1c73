// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/bpf"
)

// TestRootEveryProgramLoads loads each program that this kernel is to have by itself,
// and attaches all of them. What a kernel cannot do at all is in Probe, too.
func TestRootEveryProgramLoads(t *testing.T) {
	l := newLab(t)
	if err := l.datapath.AttachSock(cgroup(t)); err != nil {
		t.Error(err)
	}
	attached, err := l.datapath.Attached()
	if err != nil {
		t.Fatal(err)
	}
	programs := 0
	for _, r := range bpf.Probe() {
		if r.Says != "" {
			if r.Err != nil && r.Fallback == "" {
				t.Errorf("%s: %v", r.Says, r.Err)
			}
			continue
		}
		programs++
		t.Run(r.Name, func(t *testing.T) {
			if r.Err != nil {
				t.Fatalf("%+v", r.Err)
			}
			isHook := !slices.Contains([]string{"count_tables", "walk_tables", "stale_tcp", "stale_udp", "wire"}, r.Name)
			is := slices.ContainsFunc(attached, func(pin string) bool { return strings.HasPrefix(pin, r.Name) })
			if isHook && !is {
				t.Errorf("it is not among what is attached: %v", attached)
			}
		})
	}
	if programs < 15 {
		t.Errorf("%d programs were loaded, expected 15 or more", programs)
	}
}
