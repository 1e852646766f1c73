// SPDX-License-Identifier: Apache-2.0

package roottest

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BPFFS mounts a BPF file system of the test's own and returns its directory.
func BPFFS(t testing.TB) string {
	t.Helper()
	Require(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Cgroup makes a cgroup of the test's own below the root of cgroup v2.
func Cgroup(t testing.TB) string {
	t.Helper()
	Require(t)
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(root, "slipway-bpf-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("no cgroup v2 on this machine")
	return ""
}
