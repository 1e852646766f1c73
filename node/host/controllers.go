// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Controllers of cgroups. A kubelet ends with "missing controllers" when a
// controller that the root of cgroup v2 has is not there for its pods
// (getSupportedUnifiedControllers in kubelet/cm), and limits nothing where the
// kernel lacks it.
var (
	neededControllers = []string{"cpu", "cpuset", "memory", "pids"}
	usefulControllers = []string{"hugetlb", "io"}
)

// Controllers says what a node finds at the root of its cgroups.
type Controllers struct {
	// Missing are those that a node needs and the kernel does not have.
	Missing []string
	// Disabled are those that are there, but not for the cgroups below.
	Disabled []string
	// Crowded tells that those cannot be enabled, since processes are in the root
	// of this cgroup namespace itself.
	Crowded bool
}

// FindControllers looks at the hierarchies of this machine, v1 and v2.
func FindControllers() (Controllers, error) {
	if isCgroup2(cgroupMount) {
		return findUnified(cgroupMount)
	}
	return findHierarchies(cgroupMount), nil
}

// findHierarchies looks for a v1 hierarchy for each controller. Some have two
// controllers; there is a link by the name of each.
func findHierarchies(mount string) Controllers {
	var found Controllers
	for _, name := range neededControllers {
		if _, err := os.Stat(filepath.Join(mount, name)); err != nil {
			found.Missing = append(found.Missing, name)
		}
	}
	return found
}

func findUnified(root string) (Controllers, error) {
	have, err := controllersIn(root, "cgroup.controllers")
	if err != nil {
		return Controllers{}, err
	}
	enabled, err := controllersIn(root, "cgroup.subtree_control")
	if err != nil {
		return Controllers{}, err
	}
	var found Controllers
	for _, name := range slices.Concat(neededControllers, usefulControllers) {
		switch {
		case slices.Contains(enabled, name):
		case slices.Contains(have, name):
			found.Disabled = append(found.Disabled, name)
		case slices.Contains(neededControllers, name):
			found.Missing = append(found.Missing, name)
		}
	}
	// Only the true root has no type; elsewhere a cgroup has processes or gives
	// controllers to those below, not both.
	if _, err := os.Stat(filepath.Join(root, "cgroup.type")); err == nil && len(found.Disabled) > 0 {
		procs, err := os.ReadFile(filepath.Join(root, "cgroup.procs"))
		if err != nil {
			return Controllers{}, fmt.Errorf("list processes of cgroup: %w", err)
		}
		found.Crowded = len(strings.Fields(string(procs))) > 0
	}
	return found, nil
}

func controllersIn(dir, file string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, fmt.Errorf("read controllers of cgroup: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// EnableControllers lets the cgroups below the root of cgroup v2 have what a
// kubelet needs, and records what was not enabled before.
func (j *Journal) EnableControllers() error {
	if !isCgroup2(cgroupMount) {
		return nil
	}
	return j.enableControllersAt(cgroupMount)
}

func (j *Journal) enableControllersAt(root string) error {
	found, err := findUnified(root)
	if err != nil {
		return err
	}
	for _, name := range found.Disabled {
		if !slices.Contains(j.entries.Controllers, name) {
			j.entries.Controllers = append(j.entries.Controllers, name)
			if err := j.save(); err != nil {
				return err
			}
		}
		err := writeController(root, "+", name)
		if err != nil && slices.Contains(neededControllers, name) {
			return fmt.Errorf("enable controller %s in cgroup %s: %w; %s", name, root, err, whyRefused(err))
		}
	}
	return nil
}

func writeController(root, sign, name string) error {
	return os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(sign+name), 0)
}

// whyRefused says what an error of the kernel means here; see "No Internal Process
// Constraint" and "CPU" in its cgroup-v2.rst.
func whyRefused(err error) string {
	switch {
	case errors.Is(err, unix.EBUSY):
		return "move the processes in it into a cgroup below"
	case errors.Is(err, unix.EINVAL):
		return "a real-time process is outside the root cgroup, often multipathd or rtkit-daemon (see `ps -eLo pid,cls,args | grep -E 'FF|RR'`): stop it, or move it by `echo PID >" + filepath.Join(cgroupMount, "cgroup.procs") + "`"
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return "the container must be privileged, with its cgroups writable"
	}
	return "see `cat " + filepath.Join(cgroupMount, "cgroup.controllers") + "`"
}

// disableControllersAt takes back what enableControllersAt has recorded, but for
// those that somebody uses by now.
func (j *Journal) disableControllersAt(root string) {
	for _, name := range slices.Backward(j.entries.Controllers) {
		if !limits(root, name) {
			// The kernel refuses it (EBUSY) while a cgroup below passes the
			// controller on; it then belongs to whoever made that.
			_ = writeController(root, "-", name)
		}
	}
}

// limits tells whether a cgroup right below has a limit of the controller, which
// would be lost with it. The kernel watches over those further down.
func limits(root, name string) bool {
	var files []string
	for _, pattern := range []string{name + ".*max", name + ".high", name + ".cpus"} {
		found, err := filepath.Glob(filepath.Join(root, "*", pattern))
		if err == nil {
			files = append(files, found...)
		}
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		limit := strings.TrimSpace(string(text))
		return err != nil || (limit != "" && !strings.HasPrefix(limit, "max"))
	})
}
