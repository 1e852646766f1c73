// SPDX-License-Identifier: Apache-2.0

// Package mount mounts, bind-mounts and unmounts by system call and reads
// the mount table. It knows nothing about volumes and keeps no state; the
// kernel's table is the state. Linux 5.12 (mount_setattr) or newer is needed.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Entry is one mount of this mount namespace.
type Entry struct {
	Path string
	// Device is the number of the mounted device as in unix.Mkdev.
	Device uint64
	// Root is which directory of the file system is mounted.
	Root     string
	FSType   string
	ReadOnly bool
}

// Table reads and changes the mounts of the calling process's namespace.
type Table struct{}

// Mount mounts the file system on the device at target. Options are those of
// mount(8) that the kernel knows: flags such as "noatime", all else goes to
// the file system.
func (Table) Mount(device, target, fsType string, options []string) error {
	flags, data, err := parse(options)
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", device, target, err)
	}
	if err := unix.Mount(device, target, fsType, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", device, target, err)
	}
	return nil
}

// Bind makes the mount at source appear at target too.
func (Table) Bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// MakeReadOnly makes the one mount at target read-only and leaves its other
// flags and the other mounts of the file system alone.
func (Table) MakeReadOnly(target string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, &attr); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// Unmount removes the topmost mount at target. No mount there is no error.
func (Table) Unmount(target string) error {
	return unmount(target, unix.UMOUNT_NOFOLLOW)
}

// UnmountLazy removes the topmost mount at target even when it is in use;
// the file system itself goes when its last user does.
func (Table) UnmountLazy(target string) error {
	return unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
}

func unmount(target string, flags int) error {
	err := unix.Unmount(target, flags)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unmount %s: %w", target, err)
}

// At returns the mounts at exactly this path, the topmost last.
func (Table) At(path string) ([]Entry, error) {
	real, err := resolve(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find mount: %w", err)
	}
	return list(func(info *mountinfo.Info) bool { return info.Mountpoint == real })
}

// Of returns the mounts of the devices.
func (Table) Of(devices ...uint64) ([]Entry, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	return list(func(info *mountinfo.Info) bool {
		return slices.Contains(devices, unix.Mkdev(uint32(info.Major), uint32(info.Minor)))
	})
}

// list returns the mounts to keep, in the order they were made.
func list(keep func(*mountinfo.Info) bool) ([]Entry, error) {
	infos, err := mountinfo.GetMounts(func(info *mountinfo.Info) (skip, stop bool) {
		return !keep(info), false
	})
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	entries := make([]Entry, 0, len(infos))
	for _, info := range infos {
		entries = append(entries, entry(info))
	}
	return entries, nil
}

// resolve follows symbolic links in the parents of path only: the last
// element may be a dead mount that cannot be looked into.
func resolve(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}
