// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testAutoscaling puts a load on a Service and takes it away again.
func testAutoscaling(t *testing.T, c *cluster) {
	c.kubectl(t, "apply", "-f", "testdata/autoscaling.yaml")
	defer c.kubectl(t, "delete", "-f", "testdata/autoscaling.yaml")
	c.kubectl(t, "rollout", "status", "deployment/scaled", "--timeout=60s")
	within(t, 2*time.Minute, func() error {
		for _, kind := range []string{"nodes", "pods"} {
			if out, err := c.try(t, "top", kind); err != nil {
				return err
			} else if !strings.Contains(out, "CPU(cores)") {
				return fmt.Errorf("top %s: %s", kind, out)
			}
		}
		return nil
	})

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := exec.CommandContext(ctx, c.path, "kubectl", "-n", "e2e", "exec", "client", "--", "/app", "ask", "-n", "100000000", "http=scaled:80")
	load.Env = c.env
	var says strings.Builder
	load.Stdout, load.Stderr = &says, &says
	begin := time.Now()
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	wantReplicas(t, c, "under load", func(n int) bool { return n > 1 })
	t.Logf("more replicas %.0f s after the load came", time.Since(begin).Seconds())
	stop()
	if err := load.Wait(); err == nil {
		t.Errorf("the load ended by itself: %s", &says)
	}
	// The program in the pod has lost its terminal, not its life.
	c.kubectl(t, "delete", "pod", "client", "--now")
	begin = time.Now()
	wantReplicas(t, c, "without load", func(n int) bool { return n == 1 })
	t.Logf("one replica %.0f s after the load went", time.Since(begin).Seconds())
	c.kubectl(t, "apply", "-f", "testdata/base.yaml")
	c.waitBase(t)
}

func wantReplicas(t *testing.T, c *cluster, when string, good func(int) bool) {
	t.Helper()
	within(t, 4*time.Minute, func() error {
		text := c.get(t, "deployment/scaled", "{.status.replicas}")
		n, err := strconv.Atoi(text)
		if err != nil || !good(n) {
			return fmt.Errorf("%s: %s replicas; the autoscaler says %s", when, text,
				c.get(t, "hpa/scaled", "{.status.currentMetrics} {.status.conditions[*].message}"))
		}
		return nil
	})
}
