// SPDX-License-Identifier: Apache-2.0

// Package filesystem makes and checks file systems with the tools of
// e2fsprogs and xfsprogs. It does not mount. It keeps no state.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
)

// The file systems this package knows.
const (
	Ext4 = "ext4"
	XFS  = "xfs"
)

// ErrTool: the program for a file system is not on this machine.
var ErrTool = errors.New("file system tool not found")

// ErrDamaged: the file system has errors that need a person to decide.
var ErrDamaged = errors.New("file system damaged")

// blockSize in bytes. Loop devices have sectors of this size, whatever the
// image lies on.
const blockSize = "4096"

// Known says whether fsType is one that can be asked for.
func Known(fsType string) bool { return slices.Contains([]string{Ext4, XFS}, fsType) }

// MinBytes is the smallest device the file system can be made on.
func MinBytes(fsType string) int64 {
	if fsType == XFS {
		return 300 << 20
	}
	return 16 << 20
}

// Installed returns the file systems whose tools this machine has.
func Installed() []string {
	var types []string
	for _, t := range []string{Ext4, XFS} {
		if _, err := exec.LookPath("mkfs." + t); err == nil {
			types = append(types, t)
		}
	}
	return types
}

// Make makes a file system on the file or device, which must read as zeros:
// no block is discarded, and what is known to be zero is not written.
func Make(ctx context.Context, target, fsType string) error {
	switch fsType {
	case Ext4:
		return makeExt4(ctx, target)
	case XFS:
		return run(ctx, "mkfs.xfs", "-q", "-K", "-f", "-b", "size="+blockSize, "-s", "size="+blockSize, target)
	}
	return fmt.Errorf("make file system %q: %w", fsType, ErrTool)
}

// makeExt4 tells mkfs that the inode tables are zero already, so that the
// kernel does not zero them after mounting, which on a loop device would
// punch holes. e2fsprogs before 1.47 do not know that option; there the
// kernel does zero them and the holes are filled again later.
func makeExt4(ctx context.Context, target string) error {
	const lazy = "nodiscard,lazy_itable_init=1,lazy_journal_init=1"
	err := run(ctx, "mkfs.ext4", "-F", "-q", "-m", "0", "-b", blockSize, "-E", lazy+",assume_storage_prezeroed=1", target)
	var exit *ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return run(ctx, "mkfs.ext4", "-F", "-q", "-m", "0", "-b", blockSize, "-E", lazy, target)
	}
	return err
}

// Check repairs what can be repaired without a decision on a device that is
// not mounted. It costs next to nothing on one that was unmounted cleanly.
// XFS has nothing to do here: mounting replays its log. Where the tool is
// missing the mount alone decides.
func Check(ctx context.Context, device, fsType string) error {
	if fsType != Ext4 {
		return nil
	}
	err := run(ctx, "e2fsck", "-p", device)
	var exit *ExitError
	switch {
	case errors.Is(err, ErrTool):
		return nil
	case errors.As(err, &exit) && exit.Code&^(fsckRepaired|fsckReboot) == 0:
		return nil
	case errors.As(err, &exit) && exit.Code&fsckUncorrected != 0:
		return fmt.Errorf("check %s: %w: %w", device, ErrDamaged, err)
	case err != nil:
		return fmt.Errorf("check %s: %w", device, err)
	}
	return nil
}

// Exit codes of e2fsck, a bit set; see e2fsck(8).
const (
	fsckRepaired    = 1
	fsckReboot      = 2
	fsckUncorrected = 4
)
