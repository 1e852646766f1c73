// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/node/host"
)

// sharedDirs are fixed places that upstream components write to; each node has
// its own.
var sharedDirs = []string{"/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/var/lib/cni"}

// mountAll gives the node its own view of all that nodes must not share. What
// the machine unmounts later goes from the node's view too; what the node
// mounts is seen by nobody else.
func (s spec) mountAll() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("separate mounts: %w", err)
	}
	cgroups, err := cgroupMounts()
	if err != nil {
		return err
	}
	// Volumes of pods on the machine: held here, they could not be detached.
	if err := host.UnmountBelow(s.NodeDataDir, s.NodeRunDir); err != nil {
		return err
	}
	if err := s.mountDirs(); err != nil {
		return err
	}
	if err := mountRun(); err != nil {
		return err
	}
	if err := mountKernel(cgroups); err != nil {
		return err
	}
	// Containers see what is mounted below the directories they are given.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with containers: %w", err)
	}
	return nil
}

// mountDirs puts the node's directories in the place of the machine's.
func (s spec) mountDirs() error {
	own := s.nodeDir(s.Name)
	places := map[string]string{filepath.Dir(s.Kubeconfig): "etc"}
	for _, dir := range sharedDirs {
		places[dir] = strings.ReplaceAll(strings.TrimPrefix(dir, "/"), "/", "-")
	}
	for at, name := range places {
		if err := bind(filepath.Join(own, name), at); err != nil {
			return err
		}
	}
	// The last one: it hides the directory that all others come from.
	return bind(filepath.Join(own, "data"), s.NodeDataDir)
}

func bind(from, at string) error {
	for _, dir := range []string{from, at} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, at, err)
	}
	return nil
}

// mountRun gives the node a /run of its own, with the machine's list of DNS
// servers where systemd-resolved keeps it.
func mountRun() error {
	const resolved = "/run/systemd/resolve/resolv.conf"
	servers, err := os.ReadFile(resolved)
	if errors.Is(err, os.ErrNotExist) {
		servers, err = os.ReadFile("/etc/resolv.conf")
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read DNS servers: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(resolved), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return os.WriteFile(resolved, servers, 0o644)
}

// mountKernel shows the node its own processes, devices, cgroups and BPF
// objects.
func mountKernel(cgroups []*mountinfo.Info) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "/proc", "proc", flags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", flags, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if len(cgroups) != 1 || cgroups[0].Mountpoint != cgroupRoot {
		if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", flags, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", cgroupRoot, err)
		}
	}
	for _, m := range cgroups {
		if err := os.MkdirAll(m.Mountpoint, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		if err := unix.Mount(m.FSType, m.Mountpoint, m.FSType, flags, controllers(m)); err != nil {
			return fmt.Errorf("mount %s: %w", m.Mountpoint, err)
		}
	}
	if err := unix.Mount("bpf", host.BPFMount, "bpf", flags, "mode=0700"); err != nil {
		return fmt.Errorf("mount %s: %w", host.BPFMount, err)
	}
	return nil
}

const cgroupRoot = "/sys/fs/cgroup"

func cgroupMounts() ([]*mountinfo.Info, error) {
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup" && m.FSType != "cgroup2", false
	})
	if err != nil {
		return nil, fmt.Errorf("list cgroup mounts: %w", err)
	}
	return all, nil
}

// controllers are the options by which a cgroup v1 hierarchy is known.
func controllers(m *mountinfo.Info) string {
	if m.FSType == "cgroup2" {
		return ""
	}
	var names []string
	for option := range strings.SplitSeq(m.VFSOptions, ",") {
		switch option {
		case "rw", "ro", "xattr", "noprefix", "clone_children":
		default:
			if !strings.HasPrefix(option, "release_agent=") {
				names = append(names, option)
			}
		}
	}
	return strings.Join(names, ",")
}
