// SPDX-License-Identifier: Apache-2.0

// Command kernels boots Debian's stock kernels in QEMU, without KVM, and tries
// Slipway on each. It is what `make kernels` runs. Packages come from Debian
// by a private configuration of apt; all files are in one directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lab is where the lab keeps its files and how it works.
type lab struct {
	dir string
	// slipway is the binary to try, by architecture.
	slipway map[string]string
	// made tells for which architectures this run has made the payload.
	made map[string]bool
	// lock keeps others away until the process ends.
	lock *os.File
	// verbose shows the guests' consoles.
	verbose bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	l := &lab{slipway: map[string]string{"amd64": "bin/slipway", "arm64": "bin/arm64/slipway"}, made: map[string]bool{}}
	names := flag.String("kernel", strings.Join(kernelNames(), " "), "kernels to try")
	which := flag.String("part", "", "parts to try: all but short, or some of "+strings.Join(partNames(), " "))
	page := flag.String("page", "", "write all results that are there into this page")
	shell := flag.String("run", "", "run only this shell command, in a guest of each kernel")
	g := usual
	flag.StringVar(&l.dir, "dir", ".build/kernels", "where packages, disks and results are kept")
	flag.BoolVar(&l.verbose, "v", false, "show the guests' consoles")
	flag.IntVar(&g.cpus, "cpus", g.cpus, "processors of the guest, with -run")
	flag.IntVar(&g.possible, "possible", 0, "processors that could be plugged in, with -run")
	flag.IntVar(&g.memory, "memory", g.memory, "memory of the guest in MiB, with -run")
	flag.StringVar(&g.append, "append", "", "more of the kernel's command line, with -run")
	flag.DurationVar(&g.timeout, "timeout", 10*time.Minute, "how long the guest may take, with -run")
	flag.BoolVar(&g.systemd, "systemd", false, "a guest with systemd, with -run")
	flag.StringVar(&g.cgroup, "cgroup", "", "what the guest mounts instead of cgroup v2: v1 or hybrid, with -run")
	flag.Parse()
	chosen, err := choose(strings.Fields(*names))
	if err != nil {
		return err
	}
	all, err := chooseParts(strings.Fields(*which))
	if err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	if *shell != "" {
		l.verbose, g.name, g.script = true, "run", *shell+"\n"
		return l.once(ctx, chosen, g)
	}
	err = l.tryAll(ctx, chosen, all)
	if *page != "" {
		return errors.Join(err, l.writePage(*page))
	}
	return err
}

// open makes the directory ready. It waits for another run that uses it.
func (l *lab) open() error {
	var err error
	if l.dir, err = filepath.Abs(l.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	if l.lock, err = os.Create(filepath.Join(l.dir, "lock")); err != nil {
		return err
	}
	if err := unix.Flock(int(l.lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", l.lock.Name(), err)
	}
	return l.tools()
}

// once boots a guest of each kernel for one command and fails when that does.
func (l *lab) once(ctx context.Context, chosen []wanted, g guest) error {
	for _, w := range chosen {
		k, err := l.fetch(w)
		if err != nil {
			return err
		}
		if err := l.payload(w.arch); err != nil {
			return err
		}
		g.kernel = k
		e, err := l.boot(ctx, g)
		if err != nil {
			return err
		}
		l.say("kernel %s: status %d after %.0f s", w.name, e.status, e.took.Seconds())
		if e.status != 0 {
			return fmt.Errorf("kernel %s: the command failed", w.name)
		}
	}
	return nil
}

// say tells what the lab does.
func (l *lab) say(format string, args ...any) {
	fmt.Printf("kernels: "+format+"\n", args...)
}
