// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/csi/loop"
)

// disk is what the pool asks of the machine; tests make it fail.
type disk interface {
	// Allocate makes the file, which must not be there, and reserves its
	// space.
	Allocate(path string, bytes int64) error
	// Refill reserves the space of holes in the file again.
	Refill(path string) error
	// Format makes a file system on a file of zeros.
	Format(ctx context.Context, path, fsType string) error
	// Move renames a directory such that it stays renamed after a crash.
	Move(from, to string) error
	// Devices returns the numbers of the devices that have the file.
	Devices(path string) ([]uint64, error)
}

// hostDisk is the machine.
type hostDisk struct{}

func (hostDisk) Allocate(path string, bytes int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return reserve(f, bytes)
}

// Refill leaves a full file alone: the kernel stops writes to a file while
// it reserves.
func (hostDisk) Refill(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Blocks*512 >= st.Size {
		return nil
	}
	return reserve(f, st.Size)
}

// reserve is on disk when it returns; what the file holds stays.
func reserve(f *os.File, bytes int64) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil {
		return &os.PathError{Op: "reserve space", Path: f.Name(), Err: err}
	}
	return f.Sync()
}

func (hostDisk) Format(ctx context.Context, path, fsType string) error {
	if err := filesystem.Make(ctx, path, fsType); err != nil {
		return err
	}
	return syncPath(path)
}

func (hostDisk) Move(from, to string) error {
	if err := syncPath(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(to)); err != nil {
		return err
	}
	return syncPath(filepath.Dir(from))
}

func (hostDisk) Devices(path string) ([]uint64, error) {
	found, err := loop.Find(path)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, info := range found {
		numbers = append(numbers, info.Rdev)
	}
	return numbers, nil
}

// syncPath brings a file or directory to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
