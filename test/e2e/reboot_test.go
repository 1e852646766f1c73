// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/test/machine"
)

// reboot does to a node's things what a reboot does, the disk left alone. The
// slipway process is dead already.
func reboot(t *testing.T, c *cluster) {
	t.Helper()
	killAll(t)
	unmountAll(t)
	detachLoops(t)
	removeLinks(t, c)
	for _, path := range []string{runDir, "/sys/fs/bpf/slipway"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	// It is there only if the network of pods was set up.
	_ = exec.Command("nft", "delete", "table", "inet", "slipway").Run()
	within(t, 20*time.Second, func() error {
		for _, group := range nodeCgroups(t) {
			if err := removeCgroup(group); err != nil {
				return err
			}
		}
		return nil
	})
}

// killAll kills containerd and the shims, then everything in containers.
func killAll(t *testing.T) {
	t.Helper()
	found, err := process.Find(func(argv []string) bool {
		return strings.HasPrefix(argv[0], dataDir+"/") || filepath.Base(argv[0]) == "slipway" && slices.Contains(argv, "containerd")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range nodeCgroups(t) {
		found = append(found, members(t, group)...)
	}
	for _, id := range found {
		if err := process.Kill(id, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// nodeCgroups returns the node's cgroup in each hierarchy.
func nodeCgroups(t testing.TB) []string {
	t.Helper()
	groups, err := filepath.Glob("/sys/fs/cgroup/*/slipway")
	if err != nil {
		t.Fatal(err)
	}
	const pure = "/sys/fs/cgroup/slipway"
	if exists(pure) {
		groups = append(groups, pure)
	}
	return groups
}

// members lists the processes in a cgroup and below.
func members(t testing.TB, group string) []process.Identity {
	t.Helper()
	var out []process.Identity
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for text := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			if id, err := process.Identify(pid); err == nil {
				out = append(out, id)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// removeCgroup removes a cgroup and those below; their processes are dead.
func removeCgroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		if err == nil {
			err = os.Remove(dir)
		}
	}
	return err
}

// unmountAll unmounts all below the node's directories, the deepest first.
func unmountAll(t *testing.T) {
	t.Helper()
	within(t, 20*time.Second, func() error {
		for _, line := range slices.Backward(snapshot(t)[machine.Mounts]) {
			point, _, _ := strings.Cut(line, " (")
			if !strings.HasPrefix(point, runDir+"/") && !strings.HasPrefix(point, dataDir+"/") {
				continue
			}
			if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
				return &fs.PathError{Op: "unmount", Path: point, Err: err}
			}
		}
		return nil
	})
}

func detachLoops(t *testing.T) {
	t.Helper()
	for _, line := range snapshot(t)[machine.Loops] {
		device, file, _ := strings.Cut(line, " of ")
		if !strings.HasPrefix(file, dataDir+"/") {
			continue
		}
		if out, err := exec.Command("losetup", "-d", "/dev/"+device).CombinedOutput(); err != nil {
			t.Fatalf("losetup -d %s: %v: %s", device, err, out)
		}
	}
}

// removeLinks removes the interfaces that were not there before the cluster.
func removeLinks(t *testing.T, c *cluster) {
	t.Helper()
	known := map[string]bool{}
	for _, line := range c.before[machine.Links] {
		name, _, _ := strings.Cut(line, " ")
		known[name] = true
	}
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range all {
		// One that goes with its pod's namespace may be gone already.
		if !known[link.Attrs().Name] {
			_ = netlink.LinkDel(link)
		}
	}
}
