// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/test/machine"
)

// Where a node keeps what it owns when no flag says otherwise.
const (
	dataDir    = "/var/lib/slipway"
	runDir     = "/run/slipway"
	kubeconfig = "/etc/slipway/kubeconfig"
)

// slipway is the binary under test.
type slipway struct {
	path string
	// env replaces the environment of the test.
	env []string
}

// binary returns the binary that `make build` has made, or another one that
// SLIPWAY_BINARY names. It skips the test where there is none, without root,
// and on a machine that has a cluster already: a user's cluster is never
// touched.
func binary(t testing.TB) slipway {
	t.Helper()
	roottest.Require(t)
	path, err := filepath.Abs("../../bin/slipway")
	if err != nil {
		t.Fatal(err)
	}
	if other := os.Getenv("SLIPWAY_BINARY"); other != "" {
		path = other
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("there is no %s: run `make build` first", path)
	}
	state := snapshot(t)
	running := func(line string) bool {
		name, rest, _ := strings.Cut(line, " ")
		return filepath.Base(name) == "slipway" && (strings.HasPrefix(rest, "up") || strings.HasPrefix(rest, "containerd"))
	}
	if i := slices.IndexFunc(state[machine.Processes], running); i >= 0 {
		t.Skipf("a cluster runs on this machine (%s): stop it with `slipway down --purge` to run this test", state[machine.Processes][i])
	}
	if _, err := os.Stat(filepath.Join(dataDir, "etcd")); err == nil {
		t.Skipf("there are data of a cluster in %s: remove them with `slipway down --purge` to run this test", dataDir)
	}
	// A purge takes these, also when they were there before and empty.
	_, _ = os.Remove(dataDir), os.Remove(filepath.Dir(kubeconfig))
	return slipway{path: path, env: environment(t)}
}

// environment is that of the test with a home of its own, so that kubectl
// keeps its cache apart, and without the cluster that the user has chosen.
func environment(t testing.TB) []string {
	t.Helper()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=")
		return name == "HOME" || name == "KUBECONFIG" || strings.HasSuffix(name, "_PROXY")
	})
	return append(env, "HOME="+t.TempDir())
}

func snapshot(t testing.TB) machine.State {
	t.Helper()
	state, err := machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// settled is a snapshot of a machine on which the kernel has freed what went before:
// it stays the same for a while.
func settled(t testing.TB) machine.State {
	t.Helper()
	state, same := snapshot(t), 0
	roottest.Eventually(t, 10*time.Second, func() error {
		now := snapshot(t)
		diff := machine.Diff(state, now)
		state, same = now, same+1
		if len(diff) > 0 {
			same = 0
		}
		if same < 20 {
			return fmt.Errorf("the machine changes: %v", diff)
		}
		return nil
	})
	return state
}

// result is what a command has done.
type result struct {
	stdout, stderr string
	status         int
	took           time.Duration
}

// run runs the binary to its end.
func (s slipway) run(t testing.TB, timeout time.Duration, args ...string) result {
	t.Helper()
	return s.start(t, timeout, exec.Command(s.path, args...))
}

// start runs a command to its end; a command that takes too long is killed
// and fails the test.
func (s slipway) start(t testing.TB, timeout time.Duration, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Env == nil {
		cmd.Env = s.env
	}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGKILL) })
	err := cmd.Wait()
	stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%v did not end within %v:\n%s%s", cmd, timeout, stdout.String(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(begin)}
}
