// SPDX-License-Identifier: Apache-2.0

// Package loop attaches image files to loop devices by ioctl.
//
// Devices are attached with LO_FLAGS_AUTOCLEAR: the kernel detaches a device
// when its last user goes, be it the Device returned by Attach or a mount.
// A process that dies between attaching and mounting therefore leaves
// nothing behind, and an unmount is also a detach. There is no state in this
// package; callers serialise calls for one image.
//
// Linux 5.8 (LOOP_CONFIGURE) or newer is needed.
package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SectorSize of the devices in bytes. It suits backing disks with 512 and
// with 4096 byte sectors, so direct I/O works on both; file systems must
// use blocks and sectors of at least this size.
const SectorSize = 4096

// attempts to win a free device against others on the machine.
const attempts = 32

// Device is an attached loop device, kept attached until Close.
type Device struct {
	Number int
	// Fresh is true when Attach attached it, false when it found it attached.
	Fresh bool
	file  *os.File
}

// Path of the device node.
func (d *Device) Path() string { return path(d.Number) }

// Rdev is the device number as in unix.Stat_t.Rdev.
func (d *Device) Rdev() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.file.Fd()), &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", d.Path(), err)
	}
	return st.Rdev, nil
}

// Close lets go of the device, which detaches unless it is mounted.
func (d *Device) Close() error { return d.file.Close() }

// Attach returns the loop device that has the image, attaching one when
// there is none. Writes go to the image with direct I/O where the file
// system below can do that. Discards are switched off so that the image
// keeps the space that was reserved for it.
func Attach(ctx context.Context, image string) (*Device, error) {
	found, err := open(image)
	if err != nil || found != nil {
		return found, err
	}
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach image: %w", err)
	}
	defer backing.Close()
	for range attempts {
		d, err := attachFree(backing)
		if err == nil {
			keepSpace(d.Number)
			return d, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("attach image %s: %w", image, err)
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("attach image %s: %w", image, err)
		}
	}
	return nil, fmt.Errorf("attach image %s: no free loop device in %d attempts", image, attempts)
}

// pause gives another process that races for the same device, or udev that
// makes the node, a moment.
func pause(ctx context.Context) error {
	t := time.NewTimer(5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func attachFree(backing *os.File) (*Device, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("get free loop device: %w", err)
	}
	f, err := os.OpenFile(path(n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: SectorSize}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], backing.Name())
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &config); err != nil {
		f.Close()
		return nil, fmt.Errorf("configure %s: %w", path(n), err)
	}
	return &Device{Number: n, Fresh: true, file: f}, nil
}

// keepSpace stops discards on the device: the loop driver would punch holes
// into the image. Where /sys cannot be written, as in an unprivileged
// container, nothing but the guarantee against fstrim is lost, and Refill
// restores the reservation later.
func keepSpace(n int) {
	name := fmt.Sprintf("/sys/block/loop%d/queue/discard_max_bytes", n)
	_ = os.WriteFile(name, []byte("0"), 0)
}

func path(n int) string { return "/dev/loop" + strconv.Itoa(n) }
