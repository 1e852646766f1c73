// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/internal/roottest"
)

// openJournal opens a journal that shares no settings with nodes of this machine.
func openJournal(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.settings = path + ".settings"
	return j
}

func TestJournalSurvivesReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	made := filepath.Join(t.TempDir(), "made")
	j := openJournal(t, path)
	if err := j.NoteDir(made); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(made, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := openJournal(t, path).Revert(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{made, path} {
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", gone, err)
		}
	}
}

func TestJournalKeepsWhatWasThere(t *testing.T) {
	j := openJournal(t, filepath.Join(t.TempDir(), "host.json"))
	there := t.TempDir()
	if err := j.NoteDir(there); err != nil {
		t.Fatal(err)
	}
	if err := j.Revert(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(there); err != nil {
		t.Errorf("a directory of somebody else was removed: %v", err)
	}
}

func TestBrokenJournalIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(path); err == nil {
		t.Error("no error for a journal that cannot be read")
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("got %q", got)
	}
}

func TestRootUnmountBelow(t *testing.T) {
	roottest.Require(t)
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b c")
	t.Cleanup(func() {
		_ = UnmountBelow(dir)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	// The first is a disk of the user's.
	for _, mount := range []string{dir, filepath.Join(dir, "a"), deep, deep} {
		if err := os.MkdirAll(mount, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := UnmountBelow(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := mountsBelow([]string{dir}); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %v (%v)", left, err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("the directory itself is not mounted any more: %v", err)
	}
}

func TestRootRemoveCgroupKills(t *testing.T) {
	roottest.Require(t)
	const name = "slipway-host-test"
	if err := MakeCgroup(name + "/child"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = RemoveCgroup(name, 5*time.Second) })
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Kill(id, 5*time.Second) })
	root, err := Unified()
	if err != nil {
		t.Fatal(err)
	}
	procs := filepath.Join(root, name, "child", "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(id.PID)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := RemoveCgroup(name, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("a process in the cgroup is still alive")
	}
	if _, err := os.Stat(filepath.Join(root, name)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is still there (%v)", err)
	}
}

func TestRemoveDeadSockets(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) net.Listener {
		t.Helper()
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	defer listen("alive").Close()
	dead := listen("dead")
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveDeadSockets(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left are %v (%v), expected the socket that answers and the file", left, err)
	}
	if err := RemoveDeadSockets(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
