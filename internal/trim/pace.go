// SPDX-License-Identifier: Apache-2.0

package trim

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// collectEvery is how often garbage is collected where the bounds allow it: the
	// heap has room for what is made in this time, and not for more.
	collectEvery = time.Minute
	// leastGC and mostGC bound the collector's target, per cent of what is live.
	leastGC, mostGC = 10, 50
)

// pacer sets the collector's target after each collection by how long ago the last
// one was: a program at rest stays small, one that works has room.
type pacer struct {
	mu      sync.Mutex
	percent int
	last    time.Time
	// cycles is how many collections there were that nobody asked for.
	cycles uint64
}

// keepPace paces the collector from now on.
func keepPace() *pacer {
	p := &pacer{}
	p.rest()
	p.wait()
	return p
}

// rest begins with the least target, as when there is nothing to do.
func (p *pacer) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.percent, p.last, p.cycles = leastGC, time.Now(), automaticCycles()
	debug.SetGCPercent(p.percent)
}

// wait has collected called after the next collection, which finds an object that
// nobody refers to.
func (p *pacer) wait() { runtime.AddCleanup(&[16]byte{}, (*pacer).collected, p) }

func (p *pacer) collected() {
	defer p.wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	cycles := automaticCycles()
	if cycles == p.cycles {
		return
	}
	now := time.Now()
	percent := paced(p.percent, now.Sub(p.last))
	p.last, p.cycles = now, cycles
	if percent != p.percent {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

// paced is the target with which the time between two collections will be
// collectEvery, when it was gap before.
func paced(percent int, gap time.Duration) int {
	if gap <= 0 {
		return mostGC
	}
	return int(min(max(float64(percent)*collectEvery.Seconds()/gap.Seconds(), leastGC), mostGC))
}

func automaticCycles() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
