// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	// basePackages are on every host.
	basePackages = []string{"systemd-sysv", "dbus", "udev", "kmod", "mount", "procps", "iproute2", "ca-certificates"}
	// readyPackages are what Slipway's requirements name, and what tests look with.
	readyPackages = []string{"nftables", "iptables", "e2fsprogs", "xfsprogs", "runc", "bpftool", "curl", "jq", "openssl"}
	// freshPackages are what somebody has who clones the repository.
	freshPackages = []string{"git", "make"}
)

// system is what is on the disk of a guest.
type system struct {
	name string
	// release is that of Debian.
	release  string
	packages []string
}

// ready is the usual system.
var ready = system{"ready", "bookworm", readyPackages}

const rootSize = "12G"

// rootImage makes the disk with a system, once.
func (l *lab) rootImage(s system) (string, error) {
	name := "root-" + s.name + "-" + s.release
	image := filepath.Join(l.dir, name+".img")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	l.say("making a system of %s with debootstrap", s.release)
	dir := filepath.Join(l.dir, name)
	defer os.RemoveAll(dir + ".new")
	err := replaced(dir, func(dir string) error {
		err := command{name: "debootstrap", args: []string{
			"--variant=minbase", "--include=" + strings.Join(slices.Concat(basePackages, s.packages), ","), s.release, dir, mirror,
		}}.run()
		if err != nil {
			return err
		}
		return finishRoot(dir)
	})
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	return image, replaced(image, func(image string) error { return makeDisk(image, dir, rootSize) })
}

// finishRoot adds what an installer would, and a unit for guests with systemd.
func finishRoot(dir string) error {
	unit, err := guestFiles.ReadFile("guest/lab.service")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/hostname":                   "lab\n",
		"etc/hosts":                      "127.0.0.1 localhost lab\n::1 localhost\n",
		"etc/resolv.conf":                "nameserver 192.0.2.1\n",
		"etc/machine-id":                 "0123456789abcdef0123456789abcdef\n",
		"etc/systemd/system/lab.service": string(unit),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "lab"), 0o755); err != nil {
		return err
	}
	wants := filepath.Join(dir, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	return os.Symlink("../lab.service", filepath.Join(wants, "lab.service"))
}

// makeDisk makes a disk with an ext4 file system that holds a directory.
func makeDisk(image, dir, size string) error {
	if err := (command{name: "truncate", args: []string{"-s", size, image}}).run(); err != nil {
		return err
	}
	return command{name: "mke2fs", args: []string{"-q", "-t", "ext4", "-F", "-d", dir, image}}.run()
}
