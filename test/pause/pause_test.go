// SPDX-License-Identifier: Apache-2.0

// Package pause tests the process of the pod sandbox, cmd/pause. It stands
// apart because Go does not take C sources in a package without cgo.
package pause

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
)

// start builds pause and becomes it in a shell that has run a script before,
// so that the script's children are pause's.
func start(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc")
	}
	program := filepath.Join(t.TempDir(), "pause")
	if out, err := exec.Command("gcc", "-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o", program, "../../cmd/pause/pause.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	cmd := exec.Command("sh", "-c", script+"\nexec "+program)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	roottest.Eventually(t, 10*time.Second, func() error {
		name, state := status(t, cmd, "Name"), status(t, cmd, "State")
		if name != "pause" || !strings.HasPrefix(state, "S") {
			return fmt.Errorf("process is %s, %s", name, state)
		}
		return nil
	})
	return cmd
}

// status gives a field of /proc/PID/status.
func status(t *testing.T, cmd *exec.Cmd, field string) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no field %s", field)
	return ""
}

func TestEndsOnSignal(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := start(t, "")
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v, want status 0", err)
			}
		})
	}
}

func TestReapsChildren(t *testing.T) {
	cmd := start(t, "true &\nsleep 0.2 &\n")
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	roottest.Eventually(t, 10*time.Second, func() error {
		left, err := os.ReadFile(children)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("children left: %s", left)
		}
		return nil
	})
}
