// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is one attached loop device of the machine.
type Info struct {
	Number int
	// Rdev is the device number as in unix.Stat_t.Rdev.
	Rdev uint64
	// Device and Inode identify the image.
	Device uint64
	Inode  uint64
	// Image is the path of the image as the kernel prints it, without the
	// mark of a deleted file.
	Image string
	// Deleted tells that the image has no name any more.
	Deleted bool
}

// Path of the device node.
func (i Info) Path() string { return path(i.Number) }

// List returns all attached loop devices.
func List() ([]Info, error) {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var all []Info
	for _, name := range names {
		info, err := read(name)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		all = append(all, info)
	}
	return all, nil
}

// Find returns the devices that have the image. More than one means that
// somebody else attached it too.
func Find(image string) ([]Info, error) {
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: image, Err: err}
	}
	all, err := List()
	if err != nil {
		return nil, err
	}
	var found []Info
	for _, info := range all {
		if info.Device == st.Dev && info.Inode == st.Ino {
			found = append(found, info)
		}
	}
	return found, nil
}

// Detach asks the kernel to detach the device; when it is in use that
// happens as soon as it is not.
func Detach(n int) error {
	f, err := os.OpenFile(path(n), os.O_RDONLY, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !gone(err) {
		return fmt.Errorf("detach %s: %w", path(n), err)
	}
	return nil
}

// open returns the device that has the image, or nil. The open file keeps
// the device attached; that it still has the image is checked after opening,
// because it may have been detached and taken by somebody else in between.
func open(image string) (*Device, error) {
	found, err := Find(image)
	if err != nil {
		return nil, err
	}
	for _, info := range found {
		f, err := os.OpenFile(info.Path(), os.O_RDWR, 0)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open loop device: %w", err)
		}
		status, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		if err == nil && status.Device == info.Device && status.Inode == info.Inode {
			return &Device{Number: info.Number, file: f}, nil
		}
		f.Close()
	}
	return nil, nil
}

// read describes the device whose sysfs attribute "backing_file" is name.
func read(name string) (Info, error) {
	image, err := os.ReadFile(name)
	if err != nil {
		return Info{}, err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(name))), "loop"))
	if err != nil {
		return Info{}, fmt.Errorf("read %s: %w", name, err)
	}
	f, err := os.OpenFile(path(n), os.O_RDONLY, 0)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	status, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return Info{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, err
	}
	clean, deleted := strings.CutSuffix(strings.TrimSuffix(string(image), "\n"), " (deleted)")
	return Info{Number: n, Rdev: st.Rdev, Device: status.Device, Inode: status.Inode, Image: clean, Deleted: deleted}, nil
}

// gone says whether the error means that the device is not attached any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
