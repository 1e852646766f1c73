// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter is the first call of a program that uses this package. Outside a
// sandbox it does nothing. The first process in a sandbox never returns from
// it: it starts the program once more and reaps whoever is left to it. The
// second sets up the machine and returns.
func Enter() error {
	text, inside := os.LookupEnv(stageVariable)
	if !inside {
		return nil
	}
	var s stage
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if s.Init {
		os.Exit(s.init())
	}
	if err := os.Unsetenv(stageVariable); err != nil {
		return err
	}
	if err := s.setUp(); err != nil {
		return fmt.Errorf("set up sandbox: %w", err)
	}
	return nil
}

// init joins the cgroups, so that the cgroup namespace of the process that it
// starts begins there, and waits for that process to end.
func (s stage) init() int {
	next := s
	next.Init = false
	var pid int
	err := joinCgroups(s.Cgroup)
	if err == nil {
		os.Unsetenv(stageVariable)
		pid, err = syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
			Env:   append(os.Environ(), next.variable()),
			Files: []uintptr{0, 1, 2, resultFile},
			Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWCGROUP},
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return 1
	}
	// Its end of the pipe must be the last.
	unix.Close(resultFile)
	return reapUntil(pid)
}

func reapUntil(last int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1
		case pid == last:
			return status.ExitStatus()
		}
	}
}

// setUp makes a machine of the namespaces.
func (s stage) setUp() error {
	cgroups, err := hierarchies()
	if err != nil {
		return err
	}
	if err := s.mountDirs(); err != nil {
		return err
	}
	if err := mountCgroups(cgroups); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(Hostname)); err != nil {
		return err
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	// As systemd has it, and as the kubelet needs it for volumes.
	return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "")
}

const (
	varLib = "/var/lib"
	varLog = "/var/log"
	tmp    = "/tmp"
)

// openDir opens a directory that may be out of sight when it is mounted: below
// a directory where another one has been mounted by then.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// within is the path of something in an open directory.
func within(dir *os.File, path string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), path)
}

func (s stage) mountDirs() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	resolver, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	own, err := openDir(s.Dir)
	if err != nil {
		return err
	}
	defer own.Close()
	steps := []mount{
		{within(own, tmp), tmp, "", unix.MS_BIND},
		{within(own, varLog), varLog, "", unix.MS_BIND},
		{within(own, varLib), varLib, "", unix.MS_BIND},
		{"proc", "/proc", "proc", 0},
		{"sysfs", "/sys", "sysfs", 0},
		{"bpf", "/sys/fs/bpf", "bpf", 0},
		{"tmpfs", "/run", "tmpfs", 0},
	}
	for name, path := range s.Mounts {
		dir, err := openDir(path)
		if err != nil {
			return err
		}
		defer dir.Close()
		steps = append(steps, mount{within(dir, ""), filepath.Join(Programs, name), "", unix.MS_BIND})
	}
	// With all below it: what is hidden would still be listed.
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount /sys: %w", err)
	}
	for _, m := range steps {
		if err := m.do(); err != nil {
			return err
		}
	}
	return keepResolver(resolver)
}

// keepResolver writes the file that /etc/resolv.conf leads to when it was
// below /run. Nobody answers there.
func keepResolver(path string) error {
	if _, err := os.Stat("/etc/resolv.conf"); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte("nameserver "+gateway4+"\n"), 0o644)
}

// mount is one to make.
type mount struct {
	source, target, kind string
	flags                uintptr
}

func (m mount) do() error {
	// Only what is mounted in the sandbox lacks the directory.
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.source, m.target, err)
	}
	return nil
}
