// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/metrics"
	"slipway.dev/slipway/node/host"
)

// minFree is what the file system of the data directory must have free for a
// start: below it etcd and the image store fail half-way, in bytes.
const minFree = 1 << 30

// Preflight checks what a node needs before anything is started or changed.
// It returns one error for everything that is missing, each with what to do.
func Preflight(cfg Config) error {
	var errs []error
	for _, check := range CheckMachine() {
		if !check.OK {
			errs = append(errs, fmt.Errorf("%s: %s; %s", check.Name, check.Says, check.Do))
		}
	}
	errs = append(errs, checkDisk(cfg.DataDir), cfg.checkAddresses())
	for _, p := range cfg.ports() {
		errs = append(errs, p.check())
	}
	return errors.Join(errs...)
}

// CheckMachine probes the machine for what a node needs: root, programs,
// cgroups and kernel features. It changes nothing.
func CheckMachine() []Check {
	checks := []Check{checkRoot()}
	if !checks[0].OK {
		return checks
	}
	checks = append(checks, checkCgroups())
	for _, p := range programs {
		checks = append(checks, p.check())
	}
	return append(checks, checkKernel()...)
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
	return Check{Name: "cgroups", OK: true, Says: "cgroup v2 at " + dir}
}

// program is an executable that a node runs.
type program struct{ name, pkg, why string }

var programs = []program{
	{"runc", "runc", "starts containers"},
	{"mkfs.ext4", "e2fsprogs", "formats volumes"},
	{"mount", "mount", "mounts volumes"},
}

func (p program) check() Check {
	path, err := exec.LookPath(p.name)
	if err != nil {
		return Check{
			Name: p.name, Says: "not installed (" + p.why + ")",
			Do: "install the package " + p.pkg + ", on Debian: apt-get install " + p.pkg,
		}
	}
	return Check{Name: p.name, OK: true, Says: path}
}

func checkDisk(dir string) error {
	at := dir
	var st unix.Statfs_t
	err := unix.Statfs(at, &st)
	// The directory, and those above it, are made later.
	for errors.Is(err, unix.ENOENT) && at != "/" {
		at = filepath.Dir(at)
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < minFree {
		return fmt.Errorf("data directory %s: %d MiB free, at least %d MiB needed; make room or choose another with --data-dir",
			dir, free>>20, minFree>>20)
	}
	return nil
}

// port is a TCP port that a part of the node listens on.
type port struct {
	number    uint16
	component string
	change    string
}

func (c Config) ports() []port {
	return []port{
		{c.APIPort, "API server", "choose another with --api-port"},
		{10250, "kubelet", "this port cannot be changed"},
		{metrics.Port, "metrics", "this port cannot be changed"},
		{c.HTTPPort, "ingress", "choose another with --ingress-http-port"},
		{c.HTTPSPort, "ingress", "choose another with --ingress-https-port"},
	}
}

func (p port) check() error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", p.number))
	if err == nil {
		return listener.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d (%s): %w", p.number, p.component, err)
	}
	return fmt.Errorf("port %d (%s) is already in use%s; stop that program, or %s", p.number, p.component, portHolder(p.number), p.change)
}

// portHolder names the program that listens on a port, when it can be found.
func portHolder(number uint16) string {
	out, err := exec.Command("ss", "-Hltnp", fmt.Sprintf("sport = :%d", number)).Output()
	if err != nil {
		return ""
	}
	_, users, found := strings.Cut(string(out), `users:(("`)
	if !found {
		return ""
	}
	name, rest, _ := strings.Cut(users, `"`)
	pid, _, _ := strings.Cut(strings.TrimPrefix(rest, ",pid="), ",")
	return fmt.Sprintf(" by %s (process %s)", name, pid)
}
