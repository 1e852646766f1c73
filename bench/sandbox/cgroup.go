// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// hierarchy is a mounted cgroup hierarchy.
type hierarchy struct {
	dir string
	// kind is cgroup or cgroup2.
	kind string
	// options choose the controllers of a v1 hierarchy.
	options string
}

// hierarchies lists what is mounted at /sys/fs/cgroup, or below it on v1 and
// the hybrid layout.
func hierarchies() ([]hierarchy, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var out []hierarchy
	for _, m := range mounts {
		if m.Mountpoint == cgroupMount || filepath.Dir(m.Mountpoint) == cgroupMount {
			out = append(out, hierarchy{m.Mountpoint, m.FSType, controllers(m.VFSOptions)})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no cgroup hierarchy is mounted at %s", cgroupMount)
	}
	return out, nil
}

// controllers leaves of the options of a hierarchy those that choose it.
func controllers(options string) string {
	kept := slices.DeleteFunc(strings.Split(options, ","), func(o string) bool {
		name, _, _ := strings.Cut(o, "=")
		return name != "name" && !slices.Contains(v1Controllers, name)
	})
	return strings.Join(kept, ",")
}

var v1Controllers = []string{
	"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory",
	"misc", "net_cls", "net_prio", "none", "perf_event", "pids", "rdma",
}

// joinCgroups puts this process into the cgroup of that name in all
// hierarchies.
func joinCgroups(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		dir := filepath.Join(h.dir, name)
		if err := inheritCPUs(h.dir, dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// inheritCPUs gives a new cpuset of v1 what its parent has; an empty one takes
// no process.
func inheritCPUs(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || len(bytes.TrimSpace(have)) > 0 {
			continue
		}
		give, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil || len(bytes.TrimSpace(give)) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, file), give, 0o644); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// mountCgroups mounts the hierarchies anew, so that they begin at the cgroup
// of the sandbox.
func mountCgroups(all []hierarchy) error {
	for _, h := range all {
		if h.dir != cgroupMount {
			if err := (mount{"tmpfs", cgroupMount, "tmpfs", 0}).do(); err != nil {
				return err
			}
			break
		}
	}
	for _, h := range all {
		if err := os.MkdirAll(h.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(h.kind, h.dir, h.kind, 0, h.options); err != nil {
			return fmt.Errorf("mount cgroup hierarchy %s: %w", h.dir, err)
		}
	}
	if len(all) == 1 && all[0].kind == "cgroup2" {
		return delegate(all[0].dir)
	}
	return nil
}

// delegate enables all controllers below a cgroup of v2, which must hold no
// process then: ours go one level down.
func delegate(dir string) error {
	own := filepath.Join(dir, "bench")
	if err := os.Mkdir(own, 0o755); err != nil {
		return err
	}
	for _, pid := range []int{1, os.Getpid()} {
		if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("move to cgroup %s: %w", own, err)
		}
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(have)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", name, err)
		}
	}
	return nil
}
