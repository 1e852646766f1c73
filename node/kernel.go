// SPDX-License-Identifier: Apache-2.0

package node

import "slipway.dev/slipway/bpf"

// checkKernel probes the kernel for the BPF features of the data path.
func checkKernel() []Check {
	var checks []Check
	for _, r := range bpf.Probe() {
		check := Check{Name: "kernel", OK: r.Err == nil, Says: r.Feature}
		if r.Err != nil {
			check.Says, check.Do = r.Feature+": "+r.Err.Error(), r.Do
		}
		checks = append(checks, check)
	}
	return checks
}
