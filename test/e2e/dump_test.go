// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dump logs what a person needs to see why a test has failed.
func dump(t testing.TB, c *cluster) {
	t.Helper()
	show := func(timeout time.Duration, args ...string) {
		r := c.run(t, timeout, args...)
		t.Logf("== slipway %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	}
	show(time.Minute, "status")
	for _, args := range [][]string{
		{"get", "nodes,pods,services,endpointslices,pvc,pv,ingress", "-A", "-o", "wide"},
		{"-n", "e2e", "describe", "pods,pvc,ingress"},
		{"get", "events", "-A", "--sort-by=.lastTimestamp"},
	} {
		show(time.Minute, append([]string{"kubectl", "--request-timeout=10s"}, args...)...)
	}
	for _, pod := range []string{"-lapp=echo", "-lapp=keeper", "client", "load"} {
		show(time.Minute, "kubectl", "-n", "e2e", "--request-timeout=10s", "logs", "--tail=20", pod)
	}
	logs, _ := filepath.Glob(filepath.Join(dataDir, "log", "*.log"))
	further, _ := filepath.Glob(filepath.Join(dataDir, "nodes", "*", "data", "log", "*.log"))
	for _, path := range append(logs, further...) {
		t.Logf("== %s\n%s", path, tail(path, 60))
	}
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
