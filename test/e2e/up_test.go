// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// testUpTwice finds that a second `up` says that there is nothing to do.
func testUpTwice(t *testing.T, c *cluster) {
	pid := c.pid(t, "slipway")
	for _, args := range [][]string{{"up", "--detach"}, {"up"}} {
		r := c.run(t, 30*time.Second, args...)
		want := fmt.Sprintf("slipway is up already, as process %d", pid)
		if r.status != 0 || r.stderr != "" || !strings.Contains(r.stdout, want) {
			t.Errorf("%v: status %d, expected %q:\n%s%s", args, r.status, want, r.stdout, r.stderr)
		}
	}
	if r := c.run(t, 30*time.Second, "status"); r.status != 0 {
		t.Errorf("status: %d\n%s", r.status, r.stdout)
	}
	ready := c.get(t, "node/"+c.node, `{.status.conditions[?(@.type=="Ready")].status}`)
	if ready != "True" {
		t.Errorf("the node's condition Ready is %q", ready)
	}
}
