// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/test/kernels/result"
)

func TestParseCheck(t *testing.T) {
	const text = `ok    user                   root
FAIL  kernel                 tcx links (6.6): tcx not supported
                             -> run a kernel of release 6.6 or newer
`
	want := []finding{
		{Name: "user: root", OK: true},
		{Name: "kernel: tcx links (6.6)", Says: "tcx not supported"},
	}
	if diff := cmp.Diff(want, parseCheck(text)); diff != "" {
		t.Error(diff)
	}
}

func TestParseTests(t *testing.T) {
	const text = `=== RUN   TestRootEveryProgramLoads
=== RUN   TestRootEveryProgramLoads/pod_from
    load_test.go:10: permission denied
        R1 is not a scalar
--- FAIL: TestRootEveryProgramLoads (2.00s)
    --- FAIL: TestRootEveryProgramLoads/pod_from (1.50s)
    --- PASS: TestRootEveryProgramLoads/wire (0.50s)
    --- SKIP: TestRootEveryProgramLoads/sock (0.00s)
FAIL
`
	want := []result.Line{
		{Kind: result.Step, Name: "TestRootEveryProgramLoads", Seconds: 2},
		{Kind: result.Step, Name: "TestRootEveryProgramLoads/pod_from", Seconds: 1.5, Says: "load_test.go:10: permission denied\nR1 is not a scalar"},
		{Kind: result.Step, Name: "TestRootEveryProgramLoads/wire", OK: true, Seconds: 0.5},
		{Kind: result.Step, Name: "TestRootEveryProgramLoads/sock", OK: true, Mode: "skipped"},
	}
	if diff := cmp.Diff(want, parseTests(text)); diff != "" {
		t.Error(diff)
	}
}
