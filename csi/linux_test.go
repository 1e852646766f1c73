// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"fmt"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/roottest"
)

// ioctlTrim is FITRIM.
func ioctlTrim(dir *os.File, trim *struct{ start, length, minimum uint64 }) error {
	const fitrim = 0xc0185879
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), fitrim, uintptr(unsafe.Pointer(trim))); errno != 0 {
		return errno
	}
	return nil
}

// syncFS writes a file system's data to its device.
func syncFS(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func eventuallyReserved(t testing.TB, image string, size int64) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, func() error {
		var st unix.Stat_t
		if err := unix.Stat(image, &st); err != nil {
			return err
		}
		if st.Blocks*512 < size {
			return fmt.Errorf("%d of %d bytes reserved", st.Blocks*512, size)
		}
		return nil
	})
}
