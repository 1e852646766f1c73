// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// Unified returns where cgroup v2 is mounted: the place that BPF programs on
// sockets attach to. On the hybrid layout that is a directory beside the v1
// hierarchies.
func Unified() (string, error) {
	for _, dir := range []string{cgroupMount, filepath.Join(cgroupMount, "unified")} {
		if isCgroup2(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cgroup v2 is not mounted at %[1]s or %[1]s/unified; mount it with: mkdir -p %[1]s/unified && mount -t cgroup2 none %[1]s/unified", cgroupMount)
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// hierarchies returns the root directory of each mounted cgroup hierarchy.
func hierarchies() ([]string, error) {
	if isCgroup2(cgroupMount) {
		return []string{cgroupMount}, nil
	}
	dirs, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var roots []string
	for _, d := range dirs {
		if d.IsDir() {
			roots = append(roots, filepath.Join(cgroupMount, d.Name()))
		}
	}
	return roots, nil
}

// MakeCgroup makes the cgroup of that name in every hierarchy.
func MakeCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// RemoveCgroup kills all processes in the cgroup of that name and below, and
// removes it from every hierarchy. It gives up after the timeout.
func RemoveCgroup(name string, timeout time.Duration) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(timeout)
	for {
		var errs []error
		for _, root := range roots {
			errs = append(errs, removeTree(filepath.Join(root, name)))
		}
		err := errors.Join(errs...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// removeTree kills what runs in a cgroup directory and removes it from the
// leaves up. A cgroup whose processes are still dying is an error.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, path := range slices.Backward(dirs) {
		for _, pid := range cgroupProcs(path) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d in cgroup %s: %w", pid, path, err)
			}
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}

func cgroupProcs(dir string) []int {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(data)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
