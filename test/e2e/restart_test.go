// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
	"slipway.dev/slipway/test/machine"
)

// mark writes something that must outlive what comes: a file in the volume
// and an object. It returns the check that both are there and that the
// application serves.
func (c *cluster) mark(t *testing.T) func() error {
	t.Helper()
	text := t.Name()
	object := "mark-" + strings.ToLower(path.Base(text))
	c.mustExec(t, c.pods(t, "keeper")[0], "write", "/data/mark", text)
	c.kubectl(t, "create", "configmap", object, "--from-literal=text="+text)
	volume := c.get(t, "pvc/kept", "{.spec.volumeName}")
	all := targets(c.serviceIPs(t, "echo"), 80, 9000)
	return func() error {
		if got := c.get(t, "configmap/"+object, "{.data.text}"); got != text {
			return fmt.Errorf("the ConfigMap says %q, expected %q", got, text)
		}
		if got := c.get(t, "pvc/kept", "{.status.phase} {.spec.volumeName}"); got != "Bound "+volume {
			return fmt.Errorf("the claim is %s, expected Bound %s", got, volume)
		}
		if got, err := c.exec(t, c.pods(t, "keeper")[0], "read", "/data/mark"); err != nil || got != text {
			return fmt.Errorf("the volume holds %q, expected %q (%v)", got, text, err)
		}
		out, err := c.exec(t, "client", askArgs(enough, all)...)
		if err != nil {
			return err
		}
		return errors.Join(fromAll(decode(t, out)), fromAll(talk.Ask(all, enough)))
	}
}

func testUpAfterDown(t *testing.T, c *cluster) {
	check := c.mark(t)
	c.down(t)
	wantMachine(t, c.before.Without(machine.Files))
	if r := c.run(t, 30*time.Second, "status"); r.status == 0 || !strings.Contains(r.stdout, "not running") {
		t.Errorf("status after down: %d\n%s", r.status, r.stdout)
	}
	c.down(t)
	c.upAgain(t, check)
}

// upAgain starts the cluster and waits until the application is what it was.
// What the API says of pods is old until the kubelet has looked at them.
func (c *cluster) upAgain(t *testing.T, check func() error) {
	t.Helper()
	begin := time.Now()
	r := c.up(t)
	if !strings.Contains(r.stdout, "is Ready after") {
		t.Fatalf("up did not start anything: %s", r.stdout)
	}
	within(t, 90*time.Second, check)
	c.waitBase(t)
	t.Logf("up took %.1f s, the application %.1f s more:\n%s", r.took.Seconds(), (time.Since(begin) - r.took).Seconds(), r.stdout)
}

// testUpAfterCrash kills the two processes of a node at once; containers stay.
func testUpAfterCrash(t *testing.T, c *cluster) {
	check := c.mark(t)
	before := c.podFacts(t)
	containerd := c.pid(t, "containerd")
	kill9(t, c.pid(t, "slipway"))
	kill9(t, containerd)
	c.upAgain(t, check)
	if after := c.podFacts(t); after != before {
		t.Errorf("pods were\n%s\nand are\n%s", before, after)
	}
}

// testUpAfterReboot takes away what a reboot would: all processes, mounts,
// devices, cgroups, pinned objects and /run.
func testUpAfterReboot(t *testing.T, c *cluster) {
	check := c.mark(t)
	kill9(t, c.pid(t, "slipway"))
	reboot(t, c)
	c.upAgain(t, check)
}
