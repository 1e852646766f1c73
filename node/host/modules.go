// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ModuleState says how a part of the kernel that may be a module is to be had.
type ModuleState string

const (
	// ModuleUnknown is where the kernel's modules are not listed on this machine,
	// as in a container or a virtual machine with a kernel from outside.
	ModuleUnknown  ModuleState = "not known"
	ModuleBuiltIn  ModuleState = "built into the kernel"
	ModuleLoaded   ModuleState = "loaded"
	ModuleLoadable ModuleState = "a module, loaded when it is needed"
	ModuleBlocked  ModuleState = "a module that must not be loaded"
	ModuleAbsent   ModuleState = "not in this kernel"
)

// Modules finds out about the modules of the running kernel.
type Modules struct {
	// root is prepended to all paths.
	root, release string
}

// OpenModules looks at the running kernel.
func OpenModules() (Modules, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Modules{}, fmt.Errorf("find the kernel's release: %w", err)
	}
	return Modules{root: "/", release: unix.ByteSliceToString(name.Release[:])}, nil
}

// State tells how the module of that name is to be had, and why it may not be
// loaded.
func (m Modules) State(name string) (state ModuleState, why string) {
	if _, err := os.Stat(m.path("sys/module", name)); err == nil {
		return ModuleLoaded, ""
	}
	if m.fileSystem(name) || m.lists("modules.builtin", name) {
		return ModuleBuiltIn, ""
	}
	if _, err := os.Stat(m.path("lib/modules", m.release, "modules.dep")); err != nil {
		return ModuleUnknown, ""
	}
	if !m.lists("modules.dep", name) {
		return ModuleAbsent, ""
	}
	if text, err := os.ReadFile(m.path("proc/sys/kernel/modules_disabled")); err == nil && strings.TrimSpace(string(text)) == "1" {
		return ModuleBlocked, "kernel.modules_disabled is 1 until the next reboot: load it before, for example by /etc/modules-load.d"
	}
	if file := m.blocks(name); file != "" {
		return ModuleBlocked, file + " forbids it: take it out there"
	}
	return ModuleLoadable, ""
}

func (m Modules) path(parts ...string) string {
	return filepath.Join(append([]string{m.root}, parts...)...)
}

// fileSystem tells whether the kernel has the file system of that name.
func (m Modules) fileSystem(name string) bool {
	text, err := os.ReadFile(m.path("proc/filesystems"))
	return err == nil && slices.Contains(strings.Fields(string(text)), name)
}

// lists tells whether a list of kmod has the module; each line begins with its
// file. Names differ in dashes and underscores.
func (m Modules) lists(list, name string) bool {
	file, err := os.Open(m.path("lib/modules", m.release, list))
	if err != nil {
		return false
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		at, _, _ := strings.Cut(lines.Text(), ":")
		base, _, isModule := strings.Cut(path.Base(strings.TrimSpace(at)), ".ko")
		if isModule && sameModule(base, name) {
			return true
		}
	}
	return false
}

func sameModule(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// blocks returns the file of modprobe.d(5) that keeps the kernel from loading a
// module by itself, or empty.
func (m Modules) blocks(name string) string {
	for _, dir := range []string{"etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"} {
		files, err := filepath.Glob(m.path(dir, "*.conf"))
		if err != nil {
			continue
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool { return forbids(line, name) }) {
				return file
			}
		}
	}
	return ""
}

func forbids(line, name string) bool {
	words := strings.Fields(line)
	if len(words) < 2 || !sameModule(words[1], name) {
		return false
	}
	return words[0] == "blacklist" || (words[0] == "install" && len(words) == 3 && (path.Base(words[2]) == "false" || path.Base(words[2]) == "true"))
}

// LoadModules loads what the kernel does not load by itself. A module that cannot
// be had is an error of what needs it.
func (m Modules) LoadModules() {
	// Volumes are loop devices; where nobody has made this file, opening it
	// cannot load the module.
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		_ = exec.Command("modprobe", "-q", "loop").Run()
	}
}
