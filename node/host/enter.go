// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// EnterCgroup moves this process into the cgroup of that name in every
// hierarchy, and makes all controllers available in it.
func EnterCgroup(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := passOn(root, name); err != nil {
			return err
		}
		if err := enter(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	return nil
}

// LeaveRootCgroup moves this process from the root of its cgroup namespace into
// a leaf, where there is only cgroup v2: a cgroup with processes in it cannot
// give controllers to its children there.
func LeaveRootCgroup() error {
	if !isCgroup2(cgroupMount) {
		return nil
	}
	leaf := filepath.Join(cgroupMount, "init")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if err := enter(leaf); err != nil {
		return err
	}
	return enableControllers(cgroupMount)
}

func enter(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter cgroup %s: %w", dir, err)
	}
	return nil
}

// passOn lets the cgroup of that name have what its root has.
func passOn(root, name string) error {
	if !isCgroup2(root) {
		return inheritCPUs(root, name)
	}
	dir := root
	for part := range strings.SplitSeq(name, "/") {
		if err := enableControllers(dir); err != nil {
			return err
		}
		dir = filepath.Join(dir, part)
	}
	return nil
}

// enableControllers lets the children of a cgroup v2 directory have all
// controllers that it has.
func enableControllers(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers of cgroup: %w", err)
	}
	for name := range strings.FieldsSeq(string(have)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return fmt.Errorf("enable controller %s in cgroup %s: %w", name, dir, err)
		}
	}
	return nil
}

// inheritCPUs gives the cpuset cgroups on the way to name the processors and
// memory of the root: new ones have none, and no process may enter.
func inheritCPUs(root, name string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read processors of cgroup: %w", err)
		}
		dir := root
		for part := range strings.SplitSeq(name, "/") {
			dir = filepath.Join(dir, part)
			if now, err := os.ReadFile(filepath.Join(dir, file)); err == nil && strings.TrimSpace(string(now)) != "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), have, 0); err != nil {
				return fmt.Errorf("set processors of cgroup: %w", err)
			}
		}
	}
	return nil
}
