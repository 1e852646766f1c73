// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"os"
	"os/exec"
	"testing"

	"slipway.dev/slipway/internal/roottest"
)

// TestRootFallbacks runs root tests once more with what replaces the features that
// older kernels lack. The error of a refused connection is not among them: there is
// nothing in its place.
func TestRootFallbacks(t *testing.T) {
	roottest.Require(t)
	if os.Getenv(withoutEnv) != "" {
		t.Skip("this is the run without features")
	}
	for kernel, run := range map[string]struct{ without, tests string }{
		"6.1":  {"elem_count kern_ctx netdev sock_destroy tcx", "^TestRoot"},
		"5.15": {"loop mptcp_sock xdp_frags", "^TestRoot(Sock|Stale|Affinity|Direct)"},
	} {
		t.Run(kernel, func(t *testing.T) {
			again := exec.Command("/proc/self/exe", "-test.run="+run.tests, "-test.timeout=10m")
			again.Env = append(os.Environ(), withoutEnv+"="+run.without)
			if out, err := again.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
