// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// guest is a machine to boot, and what runs in it.
type guest struct {
	kernel
	machine
	// name tells the runs of a kernel apart.
	name, script string
	timeout      time.Duration
	// systemd makes systemd the first process.
	systemd bool
	// fresh is a release of Debian for a host that has only a clone of this
	// repository, with Go; else it is the usual host.
	fresh string
	// shares are more directories that the guest can mount.
	shares []share
	// root is a disk of this guest's own, which keeps what is written.
	root string
	// cgroup is what is mounted at /sys/fs/cgroup: v2 where it is empty, else
	// v1 or hybrid.
	cgroup string
}

func (g guest) system() system {
	if g.fresh != "" {
		return system{"fresh", g.fresh, freshPackages}
	}
	return ready
}

// ended is how a guest ended.
type ended struct {
	// status is that of the script, -1 when it did not end.
	status int
	took   time.Duration
	// out is the directory with its results, log the file with its console.
	out, log string
}

// boot starts a guest and waits for its end.
func (l *lab) boot(ctx context.Context, g guest) (ended, error) {
	e := ended{status: -1, out: filepath.Join(l.dir, "out", g.wanted.name+"-"+g.name)}
	e.log = e.out + ".log"
	if err := os.RemoveAll(e.out); err != nil {
		return e, err
	}
	if err := os.MkdirAll(e.out, 0o755); err != nil {
		return e, err
	}
	if g.fresh != "" {
		shares, env, err := l.fresh(g.fresh)
		if err != nil {
			return e, err
		}
		g.shares, g.script = shares, env+g.script
	}
	if err := os.WriteFile(filepath.Join(e.out, "script"), []byte(g.script), 0o644); err != nil {
		return e, err
	}
	cmd, err := l.guestCommand(g, e.out)
	if err != nil {
		return e, err
	}
	start := time.Now()
	err = l.runGuest(ctx, cmd, g.timeout, e.log)
	e.took = time.Since(start)
	if err != nil {
		return e, fmt.Errorf("kernel %s, %s: %w; see %s", g.wanted.name, g.name, err, e.log)
	}
	status, err := os.ReadFile(filepath.Join(e.out, "status"))
	if err != nil {
		return e, fmt.Errorf("kernel %s, %s: the guest ended before its script did; see %s", g.wanted.name, g.name, e.log)
	}
	e.status, err = strconv.Atoi(strings.TrimSpace(string(status)))
	return e, err
}

// guestCommand puts the disks, shares and the kernel's command line together.
func (l *lab) guestCommand(g guest, out string) (command, error) {
	initrd, err := l.initrd(g.kernel)
	if err != nil {
		return command{}, err
	}
	disks := []disk{{path: filepath.Join(l.dir, "payload-"+g.arch+".img")}}
	options := []string{"lab.cgroup=" + g.cgroup}
	if g.systemd {
		options = []string{"lab.cgroup=systemd"}
	}
	if g.arch == "amd64" {
		root := disk{path: g.root, keep: true}
		if g.root == "" {
			image, err := l.rootImage(g.system())
			if err != nil {
				return command{}, err
			}
			root = disk{path: image}
		}
		disks = append([]disk{root}, disks...)
	} else {
		options = append(options, "lab.root=none")
	}
	m := g.machine
	m.append = strings.TrimSpace(strings.Join(append(options, m.append), " "))
	shares := []share{{tag: "modules", path: g.modules()}, {tag: "out", path: out, write: true}}
	shares = append(shares, g.shares...)
	return l.qemuCommand(g.kernel, m, initrd, disks, shares), nil
}

// runGuest runs QEMU until it ends or the time is over. The console goes to a
// file, and to the terminal as well if that is asked for.
func (l *lab) runGuest(ctx context.Context, c command, timeout time.Duration, log string) error {
	console, err := os.Create(log)
	if err != nil {
		return err
	}
	defer console.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout = io.Writer(console)
	if l.verbose {
		cmd.Stdout = io.MultiWriter(console, os.Stdout)
	}
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("did not end within %v", timeout)
	}
	return err
}
