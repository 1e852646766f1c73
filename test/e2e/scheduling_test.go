// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// unschedulable is the message about a pod that fits nowhere.
const unschedulable = `{.status.conditions[?(@.reason=="Unschedulable")].message}`

// testScheduling sees pods wait for what they ask for, and get it.
func testScheduling(t *testing.T, c *cluster) {
	c.use(t, "scheduling.yaml")
	node := "node/" + c.node
	wantWaits := func(pod, words string) {
		t.Helper()
		within(t, 20*time.Second, func() error {
			if why := c.get(t, pod, unschedulable); !strings.Contains(why, words) {
				return fmt.Errorf("%s waits because of %q, expected %q", pod, why, words)
			}
			return nil
		})
	}
	wantWaits("pod/choosy", "didn't match Pod's node affinity/selector")
	wantWaits("pod/spread", "didn't match pod topology spread constraints")
	c.kubectl(t, "label", node, "slipway.dev/e2e=harbour")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/choosy", "pod/spread", "--timeout=30s")
	c.kubectl(t, "label", node, "slipway.dev/e2e-")
	c.wantField(t, 30*time.Second, "rs/apart", "{.status.readyReplicas}", "1")

	c.kubectl(t, "rollout", "status", "deployment/guarded", "--timeout=60s")
	c.wantField(t, 20*time.Second, "pdb/guarded", "{.status.currentHealthy}", "2")
	c.refused(t, "would violate the pod's disruption budget", "drain", c.node, "--pod-selector=app=guarded", "--timeout=1s")
	c.kubectl(t, "uncordon", c.node)

	c.kubectl(t, "taint", "nodes", c.node, "e2e=closed:NoSchedule")
	t.Cleanup(func() { c.try(t, "taint", "nodes", c.node, "e2e:NoSchedule-") })
	c.kubectl(t, runIn("e2e", "shut-out", "")...)
	wantWaits("pod/shut-out", "had untolerated taint")
	c.kubectl(t, "taint", "nodes", c.node, "e2e:NoSchedule-")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/shut-out", "--timeout=30s")
	c.kubectl(t, "delete", "pod", "shut-out", "--grace-period=0", "--force")
	c.testPreemption(t)
}

// testPreemption fills the node up with pods of no importance, and has one of
// them go for a pod of high priority.
func (c *cluster) testPreemption(t *testing.T) {
	const most = `{"spec":{%s"terminationGracePeriodSeconds":0,"containers":[{"name":"app","image":"slipway.dev/e2e:v1",` +
		`"imagePullPolicy":"Never","args":["serve"],"resources":{"requests":{"example.com/berth":"1"}}}]}}`
	node := c.node
	c.kubectl(t, "patch", "node", node, "--subresource=status", "--type=merge", "-p", `{"status":{"capacity":{"example.com/berth":"1"}}}`)
	t.Cleanup(func() {
		c.kubectl(t, "delete", "pod", "minor", "urgent", "--ignore-not-found", "--grace-period=0", "--force")
		c.kubectl(t, "patch", "node", node, "--subresource=status", "--type=json", "-p", `[{"op":"remove","path":"/status/capacity/example.com~1berth"}]`)
	})
	c.wantField(t, 20*time.Second, "node/"+node, `{.status.allocatable.example\.com/berth}`, "1")
	run := func(name, class string) {
		overrides := fmt.Sprintf(strings.ReplaceAll(most, `"name":"app"`, `"name":"`+name+`"`), class)
		overrides = strings.ReplaceAll(overrides, `"requests"`, `"limits":{"example.com/berth":"1"},"requests"`)
		c.kubectl(t, runIn("e2e", name, overrides)...)
	}
	run("minor", "")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/minor", "--timeout=30s")
	run("urgent", `"priorityClassName":"e2e-urgent",`)
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/urgent", "--timeout=60s")
	if _, err := c.try(t, "get", "pod", "minor"); err == nil {
		t.Error("the pod of no importance is still there")
	}
}
