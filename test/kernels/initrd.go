// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// initrdModules are what the first file system loads: what leads to the disks
// and shares. All else is loaded on demand, as on a user's machine.
var initrdModules = []string{"virtio_pci", "virtio_blk", "virtio_mmio", "ext4", "9p", "9pnet_virtio", "virtio_rng"}

// initrd writes the first file system of a kernel: busybox, the modules in the
// order to load them, and guest/initrd.sh.
func (l *lab) initrd(k kernel) (string, error) {
	var a cpio
	busybox, err := os.ReadFile(filepath.Join(l.busybox(k.arch), "bin/busybox"))
	if err != nil {
		return "", err
	}
	start, err := guestFiles.ReadFile("guest/initrd.sh")
	if err != nil {
		return "", err
	}
	for _, dir := range []string{"bin", "dev", "proc", "sys", "run", "tmp", "modules", "new", "lab"} {
		a.add(dir, modeDir|0o755, nil)
	}
	a.add("bin/busybox", modeFile|0o755, busybox)
	a.add("bin/sh", modeLink|0o777, []byte("busybox"))
	a.add("init", modeFile|0o755, start)
	order, err := k.loadOrder(initrdModules)
	if err != nil {
		return "", err
	}
	for i, path := range order {
		data, err := module(path)
		if err != nil {
			return "", err
		}
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".zst")
		a.add(fmt.Sprintf("modules/%02d-%s", i, name), modeFile|0o644, data)
	}
	out := filepath.Join(l.dir, "initrd-"+k.name)
	return out, os.WriteFile(out, a.bytes(), 0o644)
}

// loadOrder lists the files of modules and of those they depend on, in the
// order in which they can be loaded.
func (k kernel) loadOrder(names []string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	for _, name := range names {
		out, err := command{name: "modprobe", args: []string{"-d", k.root, "-S", k.release, "--show-depends", name}}.output()
		if err != nil && strings.Contains(err.Error(), "not found") {
			continue // built in without a trace, or not in this kernel
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) >= 2 && fields[0] == "insmod" && !seen[fields[1]] {
				seen[fields[1]] = true
				order = append(order, fields[1])
			}
		}
	}
	return order, nil
}

// module reads a module as the kernel takes it.
func module(path string) ([]byte, error) {
	program := map[string]string{".xz": "xz", ".zst": "zstd"}[filepath.Ext(path)]
	if program == "" {
		return os.ReadFile(path)
	}
	out, err := command{name: program, args: []string{"-dc", path}}.output()
	return []byte(out), err
}

// Modes of files in an archive.
const (
	modeFile = 0o100000
	modeDir  = 0o040000
	modeLink = 0o120000
)

// cpio writes the archive format that the kernel unpacks ("newc").
type cpio struct {
	out   bytes.Buffer
	inode int
}

func (a *cpio) add(name string, mode int, data []byte) {
	a.inode++
	fmt.Fprintf(&a.out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.out.Write(data)
	a.pad()
}

func (a *cpio) pad() {
	for a.out.Len()%4 != 0 {
		a.out.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *cpio) bytes() []byte {
	a.add("TRAILER!!!", 0, nil)
	return a.out.Bytes()
}
