// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// QEMU is of bookworm-backports: that of Debian 12 itself, 7.2, crashes
// kernel 6.12 in half of the boots.
const qemuRelease = "bookworm-backports"

// tools makes QEMU available, unpacked with all its libraries and the C
// library, and busybox for each architecture. Nothing is installed.
func (l *lab) tools() error {
	from := archive{filepath.Join(l.dir, "apt-tools"), toolSuites}
	if err := from.open(); err != nil {
		return err
	}
	if err := from.unpackAll(l.qemu(), qemuRelease, "qemu-system-x86", "qemu-system-arm"); err != nil {
		return err
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if err := from.unpack(l.busybox(arch), "busybox-static:"+arch); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) qemu() string               { return filepath.Join(l.dir, "qemu") }
func (l *lab) busybox(arch string) string { return filepath.Join(l.dir, "busybox-"+arch) }

// machine is what QEMU emulates.
type machine struct {
	cpus, memory int
	// possible is how many processors could be plugged in; cpus if zero.
	possible int
	// append is added to the kernel's command line.
	append string
	// flags are more flags of QEMU.
	flags []string
}

// qemuCommand is how QEMU is started with the lab's own dynamic linker. disks
// are files that stay as they are, shares are directories by tag.
func (l *lab) qemuCommand(k kernel, m machine, initrd string, disks []disk, shares []share) command {
	root := l.qemu()
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	binary, console, board := "qemu-system-x86_64", "ttyS0", "q35"
	if k.arch == "arm64" {
		binary, console, board = "qemu-system-aarch64", "ttyAMA0", "virt"
	}
	args := []string{
		"--library-path", filepath.Join(root, "lib/x86_64-linux-gnu") + ":" + lib + ":" + filepath.Join(lib, "pulseaudio"),
		filepath.Join(root, "usr/bin", binary),
		"-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"),
		"-accel", "tcg,thread=multi", "-cpu", "max", "-M", board,
		"-m", strconv.Itoa(m.memory), "-smp", fmt.Sprintf("%d,maxcpus=%d", m.cpus, max(m.cpus, m.possible)),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", k.image, "-initrd", initrd,
		"-append", fmt.Sprintf("console=%s quiet panic=-1 random.trust_cpu=on %s", console, m.append),
	}
	for _, d := range disks {
		args = append(args, "-drive", fmt.Sprintf("file=%s,if=virtio,format=raw,cache=unsafe,snapshot=%s", d.path, onOff(!d.keep)))
	}
	for _, s := range shares {
		args = append(args, "-virtfs", fmt.Sprintf("local,path=%s,mount_tag=%s,security_model=none,multidevs=remap,readonly=%s", s.path, s.tag, onOff(!s.write)))
	}
	return command{
		name: filepath.Join(root, "lib64/ld-linux-x86-64.so.2"), args: append(args, m.flags...),
		env: []string{"QEMU_MODULE_DIR=" + filepath.Join(lib, "qemu")},
	}
}

// disk is a file that the guest sees as a disk. What it writes is forgotten
// unless keep is set.
type disk struct {
	path string
	keep bool
}

// share is a directory that the guest can mount by its tag.
type share struct {
	tag, path string
	write     bool
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
