// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"

	"slipway.dev/slipway/bpf"
)

// How a feature of the kernel is had.
const (
	modeNative   = "native"
	modeFallback = "fallback"
)

// checkKernel has the kernel take the BPF programs of the data path, and tells what
// is used in place of features that it lacks. Programs that load are one line.
func checkKernel() []Check {
	var checks []Check
	var loaded []string
	for _, r := range bpf.Probe() {
		check := Check{Name: "kernel " + r.Name, OK: r.Err == nil, Says: r.Says, Mode: modeNative}
		switch {
		case r.Err == nil && r.Says == "":
			loaded = append(loaded, r.Name)
			continue
		case r.Err != nil && r.Fallback != "":
			check.OK, check.Note, check.Mode, check.Says = true, true, modeFallback, r.Says+" missing: "+r.Fallback
		case r.Err != nil:
			check.Mode, check.Do = "", r.Do
			check.Says = strings.TrimPrefix(r.Says+": "+r.Err.Error(), ": ")
		}
		checks = append(checks, check)
	}
	if len(loaded) > 0 {
		says := fmt.Sprintf("%d BPF programs load: %s", len(loaded), strings.Join(loaded, " "))
		checks = append(checks, Check{Name: "kernel programs", OK: true, Says: says, Mode: modeNative})
	}
	return checks
}
