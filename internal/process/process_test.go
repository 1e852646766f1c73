// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os/exec"
	"testing"
	"time"
)

func startSleep(t *testing.T, name string) (*exec.Cmd, Identity) {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.Args[0] = name
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Kill(id, 10*time.Second) })
	return cmd, id
}

func TestStopEndsTheProcess(t *testing.T) {
	_, id := startSleep(t, "sleep")
	if !id.Alive() {
		t.Fatal("a running process is not alive")
	}
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := Stop(id, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the handle does not notice the end")
	}
	if id.Alive() {
		t.Error("a stopped process is alive")
	}
	if err := Stop(id, 10*time.Second); err != nil {
		t.Errorf("stop of a stopped process: %v", err)
	}
}

// A parent reaps at a moment of its own; at none of them may an ended process
// look alive.
func TestEndedProcessIsNotAlive(t *testing.T) {
	for range 200 {
		_, id := startSleep(t, "sleep")
		if err := Kill(id, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if id.Alive() {
				t.Fatal("an ended process is alive")
			}
		}
	}
}

func TestOtherProcessWithSamePidIsNotTaken(t *testing.T) {
	_, id := startSleep(t, "sleep")
	other := id
	other.Start--
	if other.Alive() {
		t.Error("another start time counts as the same process")
	}
	if err := Kill(other, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("a process was killed that only shares the pid")
	}
}

func TestFind(t *testing.T) {
	const name = "slipway-process-test (odd ) name"
	_, id := startSleep(t, name)
	found, err := Find(func(argv []string) bool { return argv[0] == name })
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0] != id {
		t.Errorf("found %v, expected %v", found, id)
	}
}
