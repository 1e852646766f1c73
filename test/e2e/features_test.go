// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// testFeatures tries what people expect of any Kubernetes, each driven through kubectl.
func testFeatures(t *testing.T, c *cluster) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"workloads", testWorkloads},
		{"healing", testHealing},
		{"limits", testLimits},
		{"scheduling", testScheduling},
		{"access", testAccess},
		{"policies", testPolicies},
		{"webhooks", testWebhooks},
		{"aggregation", testAggregation},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// use applies a manifest of testdata/features for as long as the test runs.
func (c *cluster) use(t *testing.T, name string) {
	t.Helper()
	manifest := "testdata/features/" + name
	do := func(args ...string) {
		t.Helper()
		// Not in the namespace of the tests: manifests have some of their own.
		if r := c.run(t, 2*time.Minute, append([]string{"kubectl"}, args...)...); r.status != 0 {
			t.Fatalf("%s: %s", strings.Join(args, " "), r.stderr)
		}
	}
	do("apply", "-f", manifest)
	t.Cleanup(func() { do("delete", "-f", manifest, "--ignore-not-found", "--timeout=60s") })
}

// wantField waits until a field of an object has a value.
func (c *cluster) wantField(t *testing.T, timeout time.Duration, object, path, want string) {
	t.Helper()
	within(t, timeout, func() error {
		if have := c.get(t, object, path); have != want {
			return fmt.Errorf("%s %s is %q, expected %q", object, path, have, want)
		}
		return nil
	})
}

// refused fails the test unless kubectl fails, and says why in these words.
func (c *cluster) refused(t *testing.T, words string, args ...string) {
	t.Helper()
	if out, err := c.try(t, args...); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("kubectl %s: expected an error with %q, got %v\n%s", strings.Join(args, " "), words, err, out)
	}
}

// testWorkloads rolls out, pauses, resumes and rolls back a Deployment, and runs
// one of each other kind of workload.
func testWorkloads(t *testing.T, c *cluster) {
	c.use(t, "workloads.yaml")
	rolledOut := func() { c.kubectl(t, "rollout", "status", "deployment/rolling", "--timeout=60s") }
	step := `{.spec.template.spec.containers[0].env[0].value}`
	rolledOut()
	first := c.pods(t, "rolling")
	c.kubectl(t, "rollout", "pause", "deployment/rolling")
	c.kubectl(t, "set", "env", "deployment/rolling", "STEP=two")
	c.wantField(t, 10*time.Second, "deployment/rolling", `{.status.conditions[?(@.type=="Progressing")].reason}`, "DeploymentPaused")
	if now := c.pods(t, "rolling"); !slices.Equal(first, now) {
		t.Errorf("a paused Deployment has pods %v, before it had %v", now, first)
	}
	c.kubectl(t, "rollout", "resume", "deployment/rolling")
	rolledOut()
	c.kubectl(t, "set", "image", "deployment/rolling", "app=slipway.dev/e2e:none")
	c.wantField(t, 30*time.Second, "deployment/rolling", "{.status.unavailableReplicas}", "1")
	if answers := c.ask(t, "client", 20, talk.Target{Kind: talk.HTTP, Addr: "rolling:80"})[0]; answers.Error != "" {
		t.Errorf("while a roll-out is stuck: %s", describe(answers))
	}
	c.kubectl(t, "rollout", "undo", "deployment/rolling")
	rolledOut()
	c.kubectl(t, "rollout", "undo", "deployment/rolling", "--to-revision=1")
	rolledOut()
	if have := c.get(t, "deployment/rolling", step); have != "" {
		t.Errorf("back at revision 1 STEP is still %q", have)
	}

	c.kubectl(t, "rollout", "status", "statefulset/ordered", "daemonset/each", "--timeout=90s")
	if pods := c.pods(t, "ordered"); !slices.Equal(pods, []string{"ordered-0", "ordered-1"}) {
		t.Errorf("the StatefulSet has pods %v", pods)
	}
	c.mustExec(t, "client", "lookup", "ip", "ordered-1.ordered.e2e.svc.cluster.local")
	uid := c.get(t, "pvc/data-ordered-1", "{.metadata.uid}")
	c.kubectl(t, "delete", "pod", "ordered-1")
	c.kubectl(t, "rollout", "status", "statefulset/ordered", "--timeout=60s")
	if now := c.get(t, "pvc/data-ordered-1", "{.metadata.uid}"); now != uid {
		t.Errorf("the new pod has another claim: %s, before %s", now, uid)
	}
	c.kubectl(t, "delete", "statefulset", "ordered")
	c.kubectl(t, "delete", "pvc", "data-ordered-0", "data-ordered-1")
	c.kubectl(t, "wait", "--for=condition=Complete", "job/batch", "--timeout=60s")
	c.wantField(t, 10*time.Second, "job/batch", "{.status.completedIndexes}", "0-2")
	within(t, 90*time.Second, func() error {
		if c.get(t, "cronjob/minutely", "{.status.lastSuccessfulTime}") == "" {
			return fmt.Errorf("no job of the CronJob has succeeded: %s", c.kubectl(t, "get", "cronjobs,jobs"))
		}
		return nil
	})
}

// testHealing looks after containers that end, that hang, and pods that go.
func testHealing(t *testing.T, c *cluster) {
	c.use(t, "healing.yaml")
	restarts := "{.status.containerStatuses[0].restartCount}"
	for _, pod := range []string{"pod/crashing", "pod/stuck"} {
		within(t, time.Minute, func() error {
			if n := c.get(t, pod, restarts); n == "" || n == "0" {
				return fmt.Errorf("%s was not restarted", pod)
			}
			return nil
		})
	}
	if out := c.kubectl(t, "describe", "pod", "stuck"); !strings.Contains(out, "Liveness probe failed") {
		t.Errorf("no event about the liveness probe:\n%s", out)
	}
	c.wantField(t, 30*time.Second, "rs/kept", "{.status.readyReplicas}", "2")
	victim := c.pods(t, "kept")[0]
	c.kubectl(t, "delete", "pod", victim)
	c.wantField(t, 30*time.Second, "rs/kept", "{.status.readyReplicas}", "2")
	if slices.Contains(c.pods(t, "kept"), victim) {
		t.Errorf("%s is still there", victim)
	}
}

// runIn are the arguments of `kubectl run` for a pod of the tests' image.
func runIn(namespace, name string, overrides string) []string {
	args := []string{"run", name, "-n", namespace, "--image=slipway.dev/e2e:v1", "--image-pull-policy=Never"}
	if overrides != "" {
		args = append(args, "--overrides="+overrides)
	}
	return append(args, "--", "serve")
}

// testLimits has more created than a quota and a limit range allow.
func testLimits(t *testing.T, c *cluster) {
	c.use(t, "limits.yaml")
	c.kubectl(t, "wait", "-n", "e2e-limits", "resourcequota/quota", "--for=jsonpath={.status.hard.pods}=1", "--timeout=20s")
	c.refused(t, "maximum cpu usage per Container is 250m", runIn("e2e-limits", "greedy",
		`{"spec":{"containers":[{"name":"greedy","image":"slipway.dev/e2e:v1","resources":{"limits":{"cpu":"1"}}}]}}`)...)
	c.kubectl(t, runIn("e2e-limits", "first", "")...)
	if cpu := c.kubectl(t, "get", "pod", "first", "-n", "e2e-limits", "-o", "jsonpath={.spec.containers[0].resources.requests.cpu}"); cpu != "100m" {
		t.Errorf("the limit range gave a request of %q", cpu)
	}
	c.refused(t, "exceeded quota: quota", runIn("e2e-limits", "second", "")...)
}
