// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Count is what came of the requests of one kind.
type Count struct {
	OK, Failed int
	// Connections is how many were opened.
	Connections int
	// Errors are the texts of the first failures.
	Errors []string `json:",omitempty"`
}

// maxErrors bounds Count.Errors.
const maxErrors = 5

// Load puts requests on targets. Each target gets workers that open a
// connection for every request, and as many that keep theirs.
type Load struct {
	Targets []Target
	// Workers is the number of each.
	Workers int
	// Pause is what a worker waits between two requests.
	Pause time.Duration

	mu     sync.Mutex
	counts map[string]*Count
}

// Run makes requests until ctx ends; those under way are finished.
func (l *Load) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for _, t := range l.Targets {
		for range l.Workers {
			workers.Go(func() { l.work(ctx, t, "new "+t.String(), false) })
			workers.Go(func() { l.work(ctx, t, "kept "+t.String(), true) })
		}
	}
	workers.Wait()
}

// Counts returns what has happened until now, by kind and target.
func (l *Load) Counts() map[string]Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]Count{}
	for name, count := range l.counts {
		out[name] = *count
		copied := out[name]
		copied.Errors = slices.Clone(count.Errors)
		out[name] = copied
	}
	return out
}

// Names are the keys of Counts, in order.
func Names(counts map[string]Count) []string { return slices.Sorted(maps.Keys(counts)) }

func (l *Load) work(ctx context.Context, t Target, name string, keep bool) {
	var client Client
	pause := time.NewTicker(l.Pause)
	defer pause.Stop()
	for ctx.Err() == nil {
		var err error
		if client == nil {
			client, err = Open(t)
			l.add(name, func(c *Count) { c.Connections++ })
		}
		if err == nil {
			_, err = client.Ask()
		}
		l.record(name, err)
		if client != nil && (!keep || err != nil) {
			client.Close()
			client = nil
		}
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
	if client != nil {
		client.Close()
	}
}

func (l *Load) record(name string, err error) {
	l.add(name, func(c *Count) {
		if err == nil {
			c.OK++
			return
		}
		c.Failed++
		if len(c.Errors) < maxErrors {
			c.Errors = append(c.Errors, time.Now().UTC().Format(time.RFC3339Nano)+" "+err.Error())
		}
	})
}

func (l *Load) add(name string, change func(*Count)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[string]*Count{}
	}
	if l.counts[name] == nil {
		l.counts[name] = &Count{}
	}
	change(l.counts[name])
}
