// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inEachNetNS runs fn inside each network namespace that a process is in, with
// the namespace's cookie, one after the other on one thread. All containers are
// among them, whoever made them. A namespace where it fails does not keep it
// from the others.
func inEachNetNS(fn func(cookie uint64) error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime discards the thread, and with it the
		// namespace that it is in.
		runtime.LockOSThread()
		done <- visitNetNS("/proc", fn)
	}()
	return <-done
}

// visitNetNS leaves the thread in the last namespace.
func visitNetNS(proc string, fn func(cookie uint64) error) error {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	seen := map[string]bool{}
	var errs []error
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(proc, e.Name(), "ns", "net")
		name, err := os.Readlink(path)
		if err != nil || seen[name] {
			continue // An error means that the process has ended.
		}
		cookie, err := enter(path)
		if gone(err) {
			continue
		}
		seen[name] = true
		if err == nil {
			err = fn(cookie)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("network namespace of process %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// enter moves the thread to a namespace and returns its cookie.
func enter(path string) (uint64, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return 0, err
	}
	return NetNSCookie()
}

// gone tells whether a process has ended meanwhile.
func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }
