// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// hopeless is how many frontends without a backend are left out for each that is
// tried: to wait for no answer takes long.
const hopeless = 16

// reports is how many results are told in full.
const reports = 20

// counts is what has come of all connections.
type counts struct {
	mu       sync.Mutex
	verdicts map[verdict]int
	// kept are connections that were kept all the time, asked how often they
	// were used.
	kept, asked int
	told        int
}

func (c *counts) add(t *testing.T, v verdict, detail func() string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdicts[v]++
	if v != wrong && v != failed {
		return
	}
	if c.told++; c.told <= reports {
		t.Errorf("%s: %s", v, detail())
	}
}

func (c *counts) String() string {
	all := 0
	for _, n := range c.verdicts {
		all += n
	}
	v := c.verdicts
	return fmt.Sprintf("connections: %d, delivered: %d, wrong: %d, failed: %d, closed: %d, without a backend: %d; kept all the time: %d, asked %d times",
		all, v[delivered], v[wrong], v[failed], v[closed], v[unanswered], c.kept, c.asked)
}

// load talks to the frontends of what world has at the time.
type load struct {
	world  *world
	counts *counts
	seed   uint64
}

// run has workers of a client talk until ctx ends.
func (l *load) run(ctx context.Context, t *testing.T, c *client, outside bool, workers int) {
	var all sync.WaitGroup
	for i := range workers {
		chance := rand.New(rand.NewPCG(l.seed, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil && l.one(t, c, outside, chance) {
			}
		})
	}
	all.Wait()
}

// one talks once to one frontend.
func (l *load) one(t *testing.T, c *client, outside bool, chance *rand.Rand) bool {
	f := l.world.pick(chance, outside)
	now := period{time.Now(), time.Now()}
	if chance.IntN(hopeless) > 0 && len(l.world.model.expect(f, now).allowed) == 0 {
		return true
	}
	how := asTCP
	if f.udp {
		how = []string{asUDP, asDatagrams}[chance.IntN(2)]
	}
	r, ok := <-c.do(how, f.addr)
	if !ok {
		return false
	}
	v, e := l.world.model.judge(f, r)
	l.counts.add(t, v, func() string { return describe(c, how, f, r, e) })
	return true
}

func describe(c *client, how string, f frontend, r result, e expectation) string {
	return fmt.Sprintf("%s by %s to %s: answer of %s, error %q, from %s to %s; expected %v",
		c.name, how, f.addr, r.from, r.err, r.start.Format(time.StampMicro), r.end.Format(time.StampMicro), e)
}

// keeper has connections to Services that stay.
type keeper struct {
	frontend frontend
	client   *client
	how      string
	result   <-chan result
}

// keep opens a connection to each frontend of the steady Services.
func (l *load) keep(clients []*client, outside bool) []keeper {
	var out []keeper
	for _, s := range l.world.steady {
		for _, p := range s.ports {
			for _, f := range s.frontends(p, outside) {
				for _, c := range clients {
					how := keptTCP
					if f.udp {
						how = keptUDP
					}
					out = append(out, keeper{f, c, how, c.do(how, f.addr)})
				}
			}
		}
	}
	return out
}

// check ends what was kept; nothing of it may have failed.
func (l *load) check(t *testing.T, kept []keeper, began time.Time) {
	for _, k := range kept {
		r, ok := <-k.result
		if !ok {
			t.Errorf("%s has ended early", k.client.name)
			return
		}
		l.counts.kept++
		l.counts.asked += r.asked
		e := l.world.model.expect(k.frontend, period{began, r.end})
		switch {
		case r.from.IsValid() && !e.allowed[r.from]:
			l.counts.add(t, wrong, func() string { return describe(k.client, k.how, k.frontend, r, e) })
		case r.err != "":
			l.counts.add(t, failed, func() string { return describe(k.client, k.how, k.frontend, r, e) })
		}
	}
}

// pick chooses a frontend that there is at the moment, half of them of Services
// that stay.
func (w *world) pick(chance *rand.Rand, outside bool) frontend {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.steady
	if alive := slices.DeleteFunc(slices.Clone(w.changing), func(s *service) bool { return s == nil }); len(alive) > 0 && chance.IntN(2) == 0 {
		from = alive
	}
	s := from[chance.IntN(len(from))]
	all := s.frontends(s.ports[chance.IntN(len(s.ports))], outside)
	return all[chance.IntN(len(all))]
}
