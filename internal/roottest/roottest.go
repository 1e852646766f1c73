// SPDX-License-Identifier: Apache-2.0

// Package roottest is what tests that change the machine share: they run as
// root or skip with a reason, work inside network namespaces of their own,
// and poll with a deadline instead of sleeping. It owns no state; every
// resource it makes is removed by the test's cleanup.
package roottest

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// Require skips the test unless it runs as root.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// NetNS makes a new, unnamed network namespace and returns its handle. The
// namespace of the calling thread is left as it was. The handle is closed,
// and with it the namespace goes, when the test ends.
func NetNS(t testing.TB) netns.NsHandle {
	t.Helper()
	Require(t)
	var made netns.NsHandle
	onThread(t, func() error {
		var err error
		made, err = netns.New()
		return err
	})
	t.Cleanup(func() { made.Close() })
	return made
}

// In runs fn on a thread that is inside the namespace. The thread is thrown
// away afterwards, so a failure inside cannot leak the namespace to other
// goroutines. Goroutines started by fn run elsewhere.
func In(t testing.TB, target netns.NsHandle, fn func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := netns.Set(target); err != nil {
			return err
		}
		return fn()
	})
}

// onThread runs fn on a locked thread that ends with it.
func onThread(t testing.TB, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime discards the thread, and with it
		// whatever namespace it was moved to.
		runtime.LockOSThread()
		// Also when fn ends the goroutine, as t.Fatal does.
		defer close(done)
		done <- fn()
	}()
	err, ended := <-done
	if err != nil {
		t.Fatal(err)
	}
	if !ended {
		t.FailNow()
	}
}

// Eventually calls check until it returns nil, and fails the test with the
// last error when the timeout has passed.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", timeout, err)
		}
		<-tick.C
	}
}
