// SPDX-License-Identifier: Apache-2.0

package trim

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
)

func TestPaced(t *testing.T) {
	for name, tt := range map[string]struct {
		percent int
		gap     time.Duration
		want    int
	}{
		"as it should be":     {40, collectEvery, 40},
		"twice as often":      {20, collectEvery / 2, 40},
		"a quarter as often":  {80, 4 * collectEvery, 20},
		"at rest":             {10, 2 * time.Minute, 10},
		"at rest after work":  {48, 4 * collectEvery, 12},
		"all the time":        {10, time.Millisecond, mostGC},
		"at once":             {10, 0, mostGC},
		"the clock went back": {20, -time.Second, mostGC},
	} {
		t.Run(name, func(t *testing.T) {
			if got := paced(tt.percent, tt.gap); got != tt.want {
				t.Errorf("got %d, expected %d", got, tt.want)
			}
		})
	}
}

var kept []byte

// TestKeepPace makes garbage until the collector has been given room.
func TestKeepPace(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	keepPace()
	runtime.GC() // One that was asked for changes nothing.
	if got := gcPercent(); got != leastGC {
		t.Fatalf("at rest the target is %d, expected %d", got, leastGC)
	}
	roottest.Eventually(t, 10*time.Second, func() error {
		for range 1000 {
			kept = make([]byte, 1<<16)
		}
		if got := gcPercent(); got != mostGC {
			return fmt.Errorf("the target is %d, expected %d", got, mostGC)
		}
		return nil
	})
}

func gcPercent() int {
	percent := debug.SetGCPercent(-1)
	debug.SetGCPercent(percent)
	return percent
}
