// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/node/host"
)

// minFree is what the file system of the data directory must have free for a
// start: below it etcd and the image store fail half-way, in bytes.
const minFree = 1 << 30

// Preflight checks what a node needs before anything is started or changed.
// It returns one error for everything that is missing, each with what to do.
func Preflight(cfg Config) error {
	var errs []error
	for _, check := range needs(cfg) {
		if !check.OK {
			errs = append(errs, fmt.Errorf("%s: %s; %s", check.Name, check.Says, check.Do))
		}
	}
	return errors.Join(errs...)
}

// CheckMachine tells all that Preflight would refuse, and what is good to know
// before a start with this configuration. It changes nothing.
func CheckMachine(ctx context.Context, cfg Config) []Check {
	checks := needs(cfg)
	if !checks[0].OK {
		return checks
	}
	return append(checks, notes(ctx, cfg)...)
}

// needs are what a node cannot do without: root, programs, cgroups, addresses,
// room, ports, modules and features of the kernel.
func needs(cfg Config) []Check {
	checks := []Check{checkRoot()}
	if !checks[0].OK {
		return checks
	}
	checks = append(checks, checkCgroups())
	for _, p := range programs {
		checks = append(checks, p.check())
	}
	checks = append(checks, checkModules()...)
	checks = append(checks, checkKernel()...)
	checks = append(checks, cfg.checkAddresses(), checkDisk(cfg.DataDir))
	return append(checks, cfg.checkPorts()...)
}

// RequireRoot returns an error when this process is not root's.
func RequireRoot(command string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root: run it with sudo", command)
	}
	return nil
}

func checkRoot() Check {
	if os.Geteuid() != 0 {
		return Check{Name: "user", Says: "not root", Do: "run it with sudo"}
	}
	return Check{Name: "user", OK: true, Says: "root"}
}

func checkCgroups() Check {
	dir, err := host.Unified()
	if err != nil {
		return Check{Name: "cgroups", Says: "cgroup v2 is not mounted", Do: err.Error()}
	}
	found, err := host.FindControllers()
	if err != nil {
		return Check{Name: "cgroups", Says: err.Error(), Do: "mount cgroup v2 anew, or reboot"}
	}
	return sayControllers(dir, found)
}

func sayControllers(dir string, found host.Controllers) Check {
	switch {
	case len(found.Missing) > 0:
		return Check{
			Name: "cgroups", Says: "the kernel offers no controller " + strings.Join(found.Missing, ", "),
			Do: "take cgroup_disable off the kernel's command line (/proc/cmdline), on a Raspberry Pi add cgroup_enable=memory to it, and reboot; in a container, let it have them",
		}
	case found.Crowded:
		return Check{
			Name: "cgroups", Says: fmt.Sprintf("controllers %s cannot be enabled in %s, which has processes of its own", strings.Join(found.Disabled, ", "), dir),
			Do: fmt.Sprintf("move them: mkdir %[1]s/init; for p in $(cat %[1]s/cgroup.procs); do echo $p >%[1]s/init/cgroup.procs; done", dir),
		}
	case len(found.Disabled) > 0:
		return Check{Name: "cgroups", OK: true, Says: fmt.Sprintf("cgroup v2 at %s; controllers %s will be enabled", dir, strings.Join(found.Disabled, ", "))}
	}
	return Check{Name: "cgroups", OK: true, Says: "cgroup v2 at " + dir}
}

// program is an executable that a node runs.
type program struct{ name, pkg, why string }

// Those that pods and most volumes need; the kubelet runs mount and umount.
var programs = []program{
	{"runc", "runc", "starts containers"},
	{"mkfs.ext4", "e2fsprogs", "formats volumes"},
	{"e2fsck", "e2fsprogs", "checks volumes"},
	{"mount", "mount", "mounts volumes"},
	{"umount", "mount", "unmounts volumes"},
}

// Those that only some clusters need, and what does not work without.
var optionalPrograms = []program{
	{"mkfs.xfs", "xfsprogs", "volumes with the file system xfs cannot be made"},
	{"ss", "iproute2", "the program that holds a port cannot be named"},
}

func (p program) check() Check {
	path, err := exec.LookPath(p.name)
	if err != nil {
		return Check{Name: p.name, Says: "not installed (" + p.why + ")", Do: p.install()}
	}
	return Check{Name: p.name, OK: true, Says: path}
}

// note is check for a program that may be missing.
func (p program) note() Check {
	check := p.check()
	if !check.OK {
		check.OK, check.Note, check.Says = true, true, "not installed: "+p.why
	}
	return check
}

func (p program) install() string {
	return "install the package " + p.pkg + ", on Debian: apt-get install " + p.pkg
}

// modules are parts of the kernel that may be modules, and what needs them. The
// kernel loads all of these by itself when they are used.
var modules = []struct{ name, why string }{
	{"overlay", "images"}, {"veth", "pod interfaces"}, {"dummy", "the node's address in the pod network"},
	{"nf_tables", "masquerade"}, {"nft_masq", "masquerade"}, {"nft_chain_nat", "masquerade"},
	{"nf_conntrack", "masquerade"}, {"loop", "volumes"}, {"ext4", "volumes"},
}

// checkModules names only those that cannot be had: what is there is seen when it
// is used.
func checkModules() []Check {
	kernel, err := host.OpenModules()
	if err != nil {
		return []Check{{Name: "modules", Says: err.Error(), Do: "report this"}}
	}
	var checks []Check
	for _, m := range modules {
		switch state, why := kernel.State(m.name); state {
		case host.ModuleBlocked:
			checks = append(checks, Check{Name: "module " + m.name, Says: fmt.Sprintf("%s (for %s)", state, m.why), Do: why})
		case host.ModuleAbsent:
			checks = append(checks, Check{Name: "module " + m.name, Says: fmt.Sprintf("%s (for %s)", state, m.why), Do: "install the package with all modules of this kernel, for example linux-modules-extra on Ubuntu, or run another kernel"})
		}
	}
	if len(checks) == 0 {
		return []Check{{Name: "modules", OK: true, Says: "nothing that a node needs is blocked"}}
	}
	return checks
}

func checkDisk(dir string) Check {
	check := Check{Name: "data directory", Do: "make room, or choose another with --data-dir"}
	at := dir
	var st unix.Statfs_t
	err := unix.Statfs(at, &st)
	// The directory, and those above it, are made later.
	for errors.Is(err, unix.ENOENT) && at != "/" {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		check.Says = fmt.Sprintf("%s: %v", dir, err)
		return check
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < minFree {
		check.Says = fmt.Sprintf("%s: %d MiB free, at least %d MiB needed", dir, free>>20, minFree>>20)
		return check
	}
	return Check{Name: "data directory", OK: true, Says: fmt.Sprintf("%s: %d MiB free", dir, free>>20)}
}
