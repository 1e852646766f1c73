// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"os"
	"os/exec"
	"testing"

	"slipway.dev/slipway/internal/roottest"
)

// TestRootFallbacks runs all root tests once more with what replaces the features
// that kernels before 6.6 lack. TestRootSockRefuses is about the error of a refused
// connection, which the oldest of them cannot tell.
func TestRootFallbacks(t *testing.T) {
	roottest.Require(t)
	if os.Getenv(withoutEnv) != "" {
		t.Skip("this is the run without features")
	}
	again := exec.Command("/proc/self/exe", "-test.run=^TestRoot", "-test.timeout=10m")
	again.Env = append(os.Environ(), withoutEnv+"=elem_count kern_ctx loop mptcp_sock netdev sock_destroy tcx xdp_frags")
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
