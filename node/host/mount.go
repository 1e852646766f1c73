// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// BPFMount is where the BPF file system belongs.
const BPFMount = "/sys/fs/bpf"

// MountBPF mounts the BPF file system where it is not mounted yet.
func (j *Journal) MountBPF() error {
	if isBPF(BPFMount) {
		return nil
	}
	j.entries.Mounts = append(j.entries.Mounts, BPFMount)
	if err := j.save(); err != nil {
		return err
	}
	if err := unix.Mount("bpf", BPFMount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount BPF file system on %s: %w", BPFMount, err)
	}
	return nil
}

func isBPF(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}

// unmountIfEmpty unmounts the BPF file system at path, unless somebody else
// keeps something there. Kernels with BPF_PRELOAD put two iterators of their
// own into each new one.
func unmountIfEmpty(path string) error {
	left, err := os.ReadDir(path)
	if err != nil || !isBPF(path) {
		return nil
	}
	left = slices.DeleteFunc(left, func(e os.DirEntry) bool {
		return e.Name() == "maps.debug" || e.Name() == "progs.debug"
	})
	if len(left) > 0 {
		return nil
	}
	if err := unix.Unmount(path, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// UnmountBelow unmounts everything below the given directories, the latest
// first, and repeats until nothing is left. The directories themselves stay
// mounted when they are: a user may have given us a disk.
func UnmountBelow(dirs ...string) error {
	for {
		points, err := mountsBelow(dirs)
		if err != nil {
			return err
		}
		if len(points) == 0 {
			return nil
		}
		for _, point := range slices.Backward(points) {
			err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EBUSY) {
				err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
			}
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", point, err)
			}
		}
	}
}

// mountsBelow lists mount points in the order in which they were made; see
// proc_pid_mountinfo(5).
func mountsBelow(dirs []string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(point, dir+"/") }) {
			points = append(points, point)
		}
	}
	return points, lines.Err()
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
