// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/csi/loopfile"
	"slipway.dev/slipway/csi/mount"
)

// Clean takes the driver off a machine where it does not run any more: it
// unmounts our volumes below kubeletRoot, detaches their devices and removes
// the sockets. With purge the volumes are removed too. A volume that is
// still in use makes it return backend.ErrInUse, and then nothing is purged.
func Clean(root, kubeletRoot string, purge bool) error {
	if err := cleanSockets(kubeletRoot); err != nil {
		return fmt.Errorf("clean csi: %w", err)
	}
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockRoot(root)
	if err != nil {
		return fmt.Errorf("clean csi: %w", err)
	}
	defer lock.Close()
	if err := cleanDevices(root, kubeletRoot); err != nil {
		return fmt.Errorf("clean csi: %w", err)
	}
	if !purge {
		return nil
	}
	if err := loopfile.Purge(root); err != nil {
		return fmt.Errorf("clean csi: %w", err)
	}
	if err := os.Remove(lock.Name()); err != nil {
		return fmt.Errorf("clean csi: %w", err)
	}
	// What is left below root is not ours, so then root stays.
	if err := os.Remove(root); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("clean csi: %w", err)
	}
	return nil
}

func cleanSockets(kubeletRoot string) error {
	plugin := pluginSocket(kubeletRoot)
	for _, path := range []string{
		registrationSocket(kubeletRoot), asidePath(registrationSocket(kubeletRoot)),
		plugin, asidePath(plugin), filepath.Dir(plugin),
	} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// cleanDevices unmounts and detaches every loop device with an image below
// root.
func cleanDevices(root, kubeletRoot string) error {
	devices, err := devicesOf(root)
	if err != nil {
		return err
	}
	if err := unmountBelow(kubeletRoot, devices); err != nil {
		return err
	}
	// Most are detached by now, with their last mount.
	if devices, err = devicesOf(root); err != nil {
		return err
	}
	for _, d := range devices {
		if err := loop.Detach(d.Number); err != nil {
			return err
		}
	}
	if devices, err = devicesOf(root); err != nil {
		return err
	}
	var failed []error
	for _, d := range devices {
		failed = append(failed, fmt.Errorf("%s with %s: %w", d.Path(), d.Image, backend.ErrInUse))
	}
	return errors.Join(failed...)
}

// unmountBelow unmounts the devices where they are mounted below dir, the
// latest mount first. Mounts in use are taken out of sight.
func unmountBelow(dir string, devices []loop.Info) error {
	numbers := make([]uint64, 0, len(devices))
	for _, d := range devices {
		numbers = append(numbers, d.Rdev)
	}
	table := mount.Table{}
	entries, err := table.Of(numbers...)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range slices.Backward(entries) {
		if real == "" || !strings.HasPrefix(e.Path, real+"/") {
			continue
		}
		err := table.Unmount(e.Path)
		if errors.Is(err, unix.EBUSY) {
			err = table.UnmountLazy(e.Path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// devicesOf returns the loop devices with an image below root, a deleted
// image included. Another node on this machine may have images of the same
// path in its own view of the file system.
func devicesOf(root string) ([]loop.Info, error) {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	all, err := loop.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(d loop.Info) bool {
		return !strings.HasPrefix(d.Image, real+"/") || !(d.Deleted || isFile(d))
	}), nil
}

// isFile tells whether the path of the image leads to the image here.
func isFile(d loop.Info) bool {
	var st unix.Stat_t
	return unix.Stat(d.Image, &st) == nil && st.Dev == d.Device && st.Ino == d.Inode
}
