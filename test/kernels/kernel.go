// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wanted is a kernel that the lab tries, by the name under which Debian has
// the package.
type wanted struct {
	name, arch, pattern string
	// origin is what people run it on.
	origin string
}

// kernels are the stock kernels, not those for clouds, which lack drivers.
func kernels() []wanted {
	return []wanted{
		{"5.10", "amd64", `linux-image-5\.10\.0-[0-9]+-amd64`, "Debian 11"},
		{"6.1", "amd64", `linux-image-6\.1\.0-[0-9]+-amd64`, "Debian 12"},
		{"6.12", "amd64", `linux-image-6\.12\.[0-9]+\+deb13-amd64`, "Debian 13"},
		{"6.18", "amd64", `linux-image-6\.18\.[0-9]+\+deb13-amd64`, "Debian 13 backports"},
		{"newest", "amd64", `linux-image-[0-9]+\.[0-9]+\.[0-9]+\+deb13-amd64`, "Debian 13 backports"},
		{"arm64-6.1", "arm64", `linux-image-6\.1\.0-[0-9]+-arm64`, "Debian 12"},
		{"arm64-6.12", "arm64", `linux-image-6\.12\.[0-9]+\+deb13-arm64`, "Debian 13"},
	}
}

func kernelNames() []string {
	var names []string
	for _, k := range kernels() {
		names = append(names, k.name)
	}
	return names
}

// choose returns the kernels with the given names.
func choose(names []string) ([]wanted, error) {
	var chosen []wanted
	for _, name := range names {
		i := slices.IndexFunc(kernels(), func(k wanted) bool { return k.name == name })
		if i < 0 {
			return nil, fmt.Errorf("kernel %q: expected one of %s", name, strings.Join(kernelNames(), ", "))
		}
		chosen = append(chosen, kernels()[i])
	}
	return chosen, nil
}

// kernel is a kernel on this machine.
type kernel struct {
	wanted
	// release is what uname -r says.
	release string
	// root holds its lib/modules.
	root  string
	image string
}

// modules is the directory of its modules.
func (k kernel) modules() string {
	return filepath.Join(k.root, "lib/modules", k.release)
}

// fetch makes a kernel available.
func (l *lab) fetch(w wanted) (kernel, error) {
	from := archive{filepath.Join(l.dir, "apt-kernels"), kernelSuites}
	if err := from.open(); err != nil {
		return kernel{}, err
	}
	name, err := from.newest(w.pattern)
	if err != nil {
		return kernel{}, fmt.Errorf("kernel %s: %w", w.name, err)
	}
	packages, err := from.parts(name)
	if err != nil {
		return kernel{}, err
	}
	k := kernel{wanted: w, release: strings.TrimPrefix(name, "linux-image-"), root: filepath.Join(l.dir, "kernels", name)}
	for i := range packages {
		packages[i] += ":" + w.arch
	}
	if err := from.unpack(k.root, packages...); err != nil {
		return kernel{}, err
	}
	if err := k.prepare(); err != nil {
		return kernel{}, err
	}
	return k, nil
}

// prepare finds the image, brings the modules to one place, and writes the
// index that modprobe needs.
func (k *kernel) prepare() error {
	if _, err := os.Lstat(filepath.Join(k.root, "lib")); os.IsNotExist(err) {
		if err := os.Symlink("usr/lib", filepath.Join(k.root, "lib")); err != nil {
			return err
		}
	}
	for _, path := range []string{filepath.Join(k.root, "boot/vmlinuz-"+k.release), filepath.Join(k.modules(), "vmlinuz")} {
		if _, err := os.Stat(path); err == nil {
			k.image = path
		}
	}
	if k.image == "" {
		return fmt.Errorf("kernel %s: there is no vmlinuz in %s", k.name, k.root)
	}
	if _, err := os.Stat(filepath.Join(k.modules(), "modules.dep.bin")); err == nil {
		return nil
	}
	return command{name: "depmod", args: []string{"-b", k.root, k.release}}.run()
}
