// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tryLimit is how long one attempt to reach a Service may take, tryPause how
	// long the observer waits for the next one. Both bound how exact it is.
	tryLimit = 10 * time.Millisecond
	tryPause = 200 * time.Microsecond
)

// sighting is what an observer tells, in nanoseconds of the clock that all
// processes share.
type sighting struct {
	At   int64
	Name string
}

// monotonic reads that clock.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// attempt makes one connection and returns who answers.
func attempt(to *unix.SockaddrInet4, buf []byte) (byte, bool) {
	fd, err := dial(to, tryLimit)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	name, err := exchange(fd, buf)
	return name, err == nil
}

// sampled is how many Services tell the time. After these the others are tried,
// which takes so long that an attempt may fail because the machine is busy: there
// only missed attempts in a row count.
const sampled, missed = 500, 5

// awaitAll goes from Service to Service in random order, and on to the next
// when one answers. It tells when the last one that did not answer at first
// began to.
func awaitAll(to []netip.AddrPort) error {
	t, buf := newTargets(to), make([]byte, 1)
	rand.Shuffle(len(t.all), func(i, j int) { t.all[i], t.all[j] = t.all[j], t.all[i] })
	var last int64
	for i := range t.all {
		failures := 0
		for {
			if _, ok := attempt(&t.all[i], buf); ok {
				break
			}
			failures++
			time.Sleep(tryPause)
		}
		if failures >= missed || failures > 0 && i < sampled {
			last = monotonic()
		}
	}
	return json.NewEncoder(os.Stdout).Encode(sighting{At: last})
}

// watchOne connects to a Service again and again and tells whenever another
// server answers than before.
func watchOne(to []netip.AddrPort) error {
	if len(to) != 1 {
		return fmt.Errorf("%d addresses to watch: expected 1", len(to))
	}
	t, buf := newTargets(to), make([]byte, 1)
	out := json.NewEncoder(os.Stdout)
	var before byte
	for {
		name, ok := attempt(&t.all[0], buf)
		if ok && name != before {
			if err := out.Encode(sighting{At: monotonic(), Name: string(name)}); err != nil {
				return err
			}
			before = name
		}
		time.Sleep(tryPause)
	}
}
