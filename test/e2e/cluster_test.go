// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
	"slipway.dev/slipway/test/machine"
)

// cluster is a cluster on this machine that the test has started.
type cluster struct {
	slipway
	// before is the machine without it.
	before machine.State
	// app is the application's program on this machine.
	app  string
	node string
	// flags are given to up.
	flags []string
	// nodeIPs are the node's addresses.
	nodeIPs []netip.Addr
}

// upTimeout is how long a start may take.
const upTimeout = 4 * time.Minute

// up starts the cluster and returns what the command printed.
func (c *cluster) up(t testing.TB) result {
	t.Helper()
	r := c.run(t, upTimeout, append([]string{"up", "--detach"}, c.flags...)...)
	if r.status != 0 {
		dump(t, c)
		t.Fatalf("up: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	return r
}

func (c *cluster) down(t testing.TB, args ...string) result {
	t.Helper()
	r := c.run(t, 2*time.Minute, append([]string{"down"}, args...)...)
	if r.status != 0 {
		t.Fatalf("down: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	return r
}

// pid returns the process id that `slipway status` tells of a component.
func (c *cluster) pid(t testing.TB, component string) int {
	t.Helper()
	status := c.run(t, 30*time.Second, "status").stdout
	match := regexp.MustCompile(`(?m)^\S+ +` + component + ` .*process (\d+)`).FindStringSubmatch(status)
	if match == nil {
		t.Fatalf("no process of %s in:\n%s", component, status)
	}
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// try runs kubectl in the namespace of the tests.
func (c *cluster) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	r := c.run(t, 3*time.Minute, append([]string{"kubectl", "-n", "e2e"}, args...)...)
	if r.status != 0 {
		return r.stdout, fmt.Errorf("kubectl %s: status %d: %s", strings.Join(args, " "), r.status, r.stderr)
	}
	return r.stdout, nil
}

func (c *cluster) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies a manifest that the test has made.
func (c *cluster) apply(t testing.TB, manifest string) {
	t.Helper()
	cmd := exec.Command(c.path, "kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if r := c.start(t, time.Minute, cmd); r.status != 0 {
		t.Fatalf("apply: %s", r.stderr)
	}
}

// get returns a field of an object by its JSON path.
func (c *cluster) get(t testing.TB, object, path string) string {
	t.Helper()
	return strings.TrimSpace(c.kubectl(t, "get", object, "-o", "jsonpath="+path))
}

// exec runs the application in a pod with other arguments.
func (c *cluster) exec(t testing.TB, pod string, args ...string) (string, error) {
	t.Helper()
	return c.try(t, append([]string{"exec", pod, "--", "/app"}, args...)...)
}

func (c *cluster) mustExec(t testing.TB, pod string, args ...string) string {
	t.Helper()
	out, err := c.exec(t, pod, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// ask asks targets from inside a pod.
func (c *cluster) ask(t testing.TB, pod string, n int, targets ...talk.Target) []talk.Answers {
	t.Helper()
	return decode(t, c.mustExec(t, pod, askArgs(n, targets)...))
}

func askArgs(n int, targets []talk.Target) []string {
	args := []string{"ask", "-n", strconv.Itoa(n)}
	for _, target := range targets {
		args = append(args, target.String())
	}
	return args
}

func decode(t testing.TB, out string) []talk.Answers {
	t.Helper()
	var answers []talk.Answers
	if err := json.Unmarshal([]byte(out), &answers); err != nil {
		t.Fatalf("answers %q: %v", out, err)
	}
	return answers
}

// addresses reads a field that holds addresses.
func (c *cluster) addresses(t testing.TB, object, path string) []netip.Addr {
	t.Helper()
	var out []netip.Addr
	for text := range strings.FieldsSeq(c.get(t, object, path)) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			t.Fatalf("%s %s: %v", object, path, err)
		}
		out = append(out, addr)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no address at %s", object, path)
	}
	return out
}

func (c *cluster) podIPs(t testing.TB, pod string) []netip.Addr {
	t.Helper()
	return c.addresses(t, "pod/"+pod, "{.status.podIPs[*].ip}")
}

// pods lists the names of the pods of an app.
func (c *cluster) pods(t testing.TB, app string) []string {
	t.Helper()
	return strings.Fields(c.kubectl(t, "get", "pods", "-l", "app="+app, "-o", "jsonpath={.items[*].metadata.name}"))
}

// waitBase waits until everything in base.yaml serves.
func (c *cluster) waitBase(t testing.TB) {
	t.Helper()
	c.kubectl(t, "rollout", "status", "deployment/echo", "deployment/keeper", "--timeout=120s")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
}

// ready makes sure that the cluster is up and pods can be worked with,
// whatever an earlier test has left.
func (c *cluster) ready(t testing.TB) {
	t.Helper()
	c.up(t)
	c.waitBase(t)
	within(t, time.Minute, func() error {
		for _, pod := range append(c.pods(t, "keeper"), "client") {
			if _, err := c.exec(t, pod, "ask", "http=127.0.0.1:8080"); err != nil {
				return err
			}
		}
		return nil
	})
}

// within polls until check returns nil. Each try may take long, so a test
// that is over its time ends after the try that is under way.
func within(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", timeout, err)
		case <-tick.C:
		}
	}
}
