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
)

// lab is where the lab keeps its files and how it works.
type lab struct {
	dir string
	// slipway is the binary to try, by architecture.
	slipway map[string]string
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
	dir := flag.String("dir", ".build/kernels", "where packages, disks and results are kept")
	names := flag.String("kernel", strings.Join(kernelNames(), " "), "kernels to try")
	shell := flag.String("run", "", "run this shell command in the guest, and nothing else")
	cpus := flag.Int("cpus", 2, "processors of the guest, with -run")
	memory := flag.Int("memory", 2560, "memory of the guest in MiB, with -run")
	boot := flag.String("append", "", "more of the kernel's command line, with -run")
	timeout := flag.Duration("timeout", 10*time.Minute, "how long the guest may take, with -run")
	systemd := flag.Bool("systemd", false, "a guest with systemd, with -run")
	cgroup := flag.String("cgroup", "", "what the guest mounts: v1 or hybrid, instead of v2, with -run")
	flag.Parse()
	chosen, err := choose(strings.Fields(*names))
	if err != nil {
		return err
	}
	l, err := newLab(*dir)
	if err != nil {
		return err
	}
	if *shell == "" {
		return errors.New("expected -run")
	}
	l.verbose = true
	for _, w := range chosen {
		err := l.once(ctx, w, guest{
			machine: machine{cpus: *cpus, memory: *memory, append: *boot},
			name:    "run", script: *shell + "\n", timeout: *timeout, systemd: *systemd, cgroup: *cgroup,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func newLab(dir string) (*lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, slipway: map[string]string{"amd64": "bin/slipway", "arm64": "bin/arm64/slipway"}}
	return l, l.tools()
}

// once boots a guest for one command and fails when that does.
func (l *lab) once(ctx context.Context, w wanted, g guest) error {
	k, err := l.fetch(w)
	if err != nil {
		return err
	}
	if _, err := l.payload(w.arch); err != nil {
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
	return nil
}

// say tells what the lab does.
func (l *lab) say(format string, args ...any) {
	fmt.Printf("kernels: "+format+"\n", args...)
}
