// SPDX-License-Identifier: Apache-2.0

package trim

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/roottest"
)

func TestFirstAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		process int
		threads []int
		want    int
	}{
		"in order":      {100, []int{104, 100, 102, 103}, 102},
		"begun anew":    {32767, []int{302, 32767, 301}, 301},
		"only itself":   {100, []int{100}, 0},
		"before and on": {100, []int{5, 100, 101}, 101},
	} {
		t.Run(name, func(t *testing.T) {
			if got := firstAfter(tt.process, tt.threads); got != tt.want {
				t.Errorf("got %d, expected %d", got, tt.want)
			}
		})
	}
}

func TestRootRelaxTimers(t *testing.T) {
	roottest.Require(t)
	if err := relaxTimers(); err != nil {
		t.Fatal(err)
	}
	threads, err := ownThreads()
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for _, id := range threads {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id), "timerslack_ns"))
		if err == nil && strings.TrimSpace(string(text)) == strconv.FormatInt(timerSlack.Nanoseconds(), 10) {
			late++
		}
	}
	if late == 0 || late == len(threads) {
		t.Errorf("%d of %d threads have timers that may be late, expected all but the monitor", late, len(threads))
	}
}
