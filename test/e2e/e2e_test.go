// SPDX-License-Identifier: Apache-2.0

// Package e2e runs whole clusters on this machine with the real binary, in
// the default directories, and looks at them as a user does: with slipway and
// kubectl, from pods, from the host, and from outside. It has tests only. They
// skip on a machine that has a cluster, and leave the machine as it was.
package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/machine"
)

// TestRootCluster brings up one cluster for all its subtests. Each of them
// can run alone; those that stop the cluster start it again.
func TestRootCluster(t *testing.T) {
	c := newCluster(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"UpTwice", testUpTwice},
		{"Kubectl", testKubectl},
		{"OlderKubectl", testOlderKubectl},
		{"Features", testFeatures},
		{"Services", testServices},
		{"PodNetwork", testPodNetwork},
		{"Volumes", testVolumes},
		{"Ingress", testIngress},
		{"NoServiceRules", testNoServiceRules},
		{"Autoscaling", testAutoscaling},
		{"Kill9", testKill9},
		{"UpAfterDown", testUpAfterDown},
		{"UpAfterCrash", testUpAfterCrash},
		{"UpAfterReboot", testUpAfterReboot},
		{"Audit", testAudit},
		{"Secrets", testSecrets},
		{"RestoreBack", testRestoreBack},
		{"Snapshot", testSnapshot},
	} {
		begin := time.Now()
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					dump(t, c)
				}
			})
			c.ready(t)
			test.run(t, c)
		})
		t.Logf("%s took %.1f s", test.name, time.Since(begin).Seconds())
	}
	t.Run("Purge", func(t *testing.T) { testPurge(t, c) })
}

// newCluster starts a cluster with the application on it. It is gone when the
// test ends, however that ends.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{slipway: binary(t)}
	keepForeign(t)
	freshKernel(t)
	c.before = snapshot(t)
	c.app = buildApp(t)
	serving := false
	t.Cleanup(func() {
		if !serving {
			dump(t, c)
		}
		if exists(dataDir) || exists(runDir) || exists(kubeconfig) {
			c.down(t, "--purge")
		}
	})
	r := c.up(t)
	t.Logf("up took %.1f s:\n%s", r.took.Seconds(), r.stdout)
	c.node = c.get(t, "nodes", "{.items[0].metadata.name}")
	c.nodeIPs = c.addresses(t, "node/"+c.node, `{.status.addresses[?(@.type=="InternalIP")].address}`)
	c.loadImage(t)
	c.kubectl(t, "apply", "-f", "testdata/base.yaml")
	begin := time.Now()
	c.waitBase(t)
	serving = true
	t.Logf("the application serves after %.1f s more", time.Since(begin).Seconds())
	return c
}

// keepForeign makes the directories that the cluster shares with others before it
// does, and puts a file of another program beside its links to logs; all of that
// must be there in the end, and nothing else. A kubelet removes every unknown
// entry of /var/log/pods itself.
func keepForeign(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"/var/log/pods", "/var/log/containers", "/var/lib/kubelet", "/var/lib/cni"} {
		if exists(dir) {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		// Empty, unless the test has failed for that.
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	foreign, err := os.CreateTemp("/var/log/containers", "e2e-foreign-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		foreign.Close()
		if err := os.Remove(foreign.Name()); err != nil {
			t.Error(err)
		}
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// testPurge takes the cluster down for good and compares the machine with
// what it was.
func testPurge(t *testing.T, c *cluster) {
	r := c.down(t, "--purge")
	t.Logf("down --purge took %.1f s:\n%s", r.took.Seconds(), r.stdout)
	wantMachine(t, c.before)
}

// wantMachine fails the test when the machine differs from a state. The
// kernel frees some objects a moment after they are let go.
func wantMachine(t testing.TB, want machine.State) {
	t.Helper()
	within(t, 10*time.Second, func() error {
		if diff := machine.Diff(want, only(snapshot(t), want)); len(diff) > 0 {
			return errors.New("the machine is not as it was:\n" + strings.Join(diff, "\n"))
		}
		return nil
	})
}

// only returns the kinds of a state that another has.
func only(state, like machine.State) machine.State {
	out := machine.State{}
	for kind := range like {
		out[kind] = state[kind]
	}
	return out
}
