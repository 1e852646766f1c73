// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/bpf"
)

const (
	// tablesEvery is how often tables are looked at.
	tablesEvery = 30 * time.Second
	// fullPercent is when a table counts as nearly full.
	fullPercent = 90
	// inUse is for how long a connection is not given up: after that, another
	// may have its place, as in lib/ct.h.
	inUse = 2 * time.Minute
)

// tables watches how full the tables of the data path are.
type tables struct {
	datapath interface {
		Usage() ([]bpf.Usage, error)
		Drops() (map[bpf.DropReason]uint64, error)
		Conntrack() iter.Seq2[bpf.Conntrack, error]
	}
	// written are the entries of tables that only their writer knows.
	written func() map[string]uint32
	// tell makes an event of the node; it may be nil.
	tell func(reason, message string)
	log  *slog.Logger

	mu sync.Mutex
	// full are the tables that the log has said to be nearly full.
	full map[string]bool
}

// usage is that of all tables, where need be as the writer knows it. An array
// without a writer is in use as a whole.
func (t *tables) usage() ([]bpf.Usage, error) {
	all, err := t.datapath.Usage()
	if err != nil {
		return nil, err
	}
	written := t.written()
	for i, u := range all {
		if !u.Uncounted {
			continue
		}
		n, ok := written[u.Table]
		if all[i].Entries = n; !ok {
			all[i].Entries = u.Capacity
		}
	}
	return all, nil
}

// percent is how full a table is, of what it may grow to.
func percent(u bpf.Usage) uint64 { return 100 * uint64(u.Entries) / uint64(max(1, u.Bound)) }

// crowded returns the tables that are nearly full. A table that gives up its
// oldest entries counts by those that it must not give up; of reverses and
// affinities nobody knows.
func (t *tables) crowded(all []bpf.Usage) (map[string]bpf.Usage, error) {
	out := map[string]bpf.Usage{}
	written := t.written()
	for _, u := range all {
		_, known := written[u.Table]
		if percent(u) < fullPercent || u.Uncounted && !known {
			continue
		}
		if u.Evicts {
			if u.Table != "conntrack" {
				continue
			}
			var err error
			if u.Entries, err = t.connections(); err != nil {
				return nil, err
			}
			if percent(u) < fullPercent {
				continue
			}
		}
		out[u.Table] = u
	}
	return out, nil
}

// connections counts the entries of conntrack that are in use.
func (t *tables) connections() (uint32, error) {
	n := uint32(0)
	for c, err := range t.datapath.Conntrack() {
		if err != nil {
			return 0, err
		}
		if c.Idle < inUse {
			n++
		}
	}
	return n, nil
}

// run logs when a table gets nearly full, and when it is no more.
func (t *tables) run(ctx context.Context) error {
	tick := time.NewTicker(tablesEvery)
	defer tick.Stop()
	for {
		if _, _, err := t.check(); err != nil {
			t.log.Warn("look how full tables are", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check looks at all tables once.
func (t *tables) check() (all []bpf.Usage, crowded map[string]bpf.Usage, err error) {
	if all, err = t.usage(); err != nil {
		return nil, nil, err
	}
	if crowded, err = t.crowded(all); err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	full := map[string]bool{}
	for name, u := range crowded {
		if full[name] = true; !t.full[name] {
			t.log.Warn("table is nearly full", "table", name, "entries", u.Entries, "bound", u.Bound)
			t.event("TableNearlyFull", says(u))
		}
	}
	for name := range t.full {
		if !full[name] {
			t.log.Info("table has room again", "table", name)
		}
	}
	t.full = full
	return all, crowded, nil
}

func (t *tables) event(reason, message string) {
	if t.tell != nil {
		t.tell(reason, message)
	}
}

// says is how full a table is, in words.
func says(u bpf.Usage) string {
	return fmt.Sprintf("%s is %d %% full (%d of %d)", u.Table, percent(u), u.Entries, u.Bound)
}

func (t *tables) health() Health {
	h := Health{Name: "tables", Do: "what does not fit is not served: delete Services and pods that nobody needs"}
	all, crowded, err := t.check()
	if err != nil {
		h.Says, h.Do = err.Error(), "restart slipway; the data path goes on meanwhile"
		return h
	}
	var full []string
	for _, name := range slices.Sorted(maps.Keys(crowded)) {
		u := crowded[name]
		full = append(full, says(u))
		if u.Evicts {
			h.Do = "new connections from outside cut off others: let more nodes take them"
		}
	}
	if h.Says = strings.Join(full, ", "); h.Says != "" {
		return h
	}
	memory := uint64(0)
	for _, u := range all {
		memory += u.Memory
	}
	return Health{Name: "tables", OK: true, Says: fmt.Sprintf("have room, take %.0f MB of the kernel's memory", float64(memory)/1e6)}
}

var (
	mapCapacity = prometheus.NewDesc("slipway_bpf_map_capacity_entries", "Entries that a table of the data path has room for.", []string{"map"}, nil)
	mapBound    = prometheus.NewDesc("slipway_bpf_map_bound_entries", "Entries that a table of the data path may grow to have room for.", []string{"map"}, nil)
	mapEntries  = prometheus.NewDesc("slipway_bpf_map_entries", "Entries of a table of the data path.", []string{"map"}, nil)
	dropped     = prometheus.NewDesc("slipway_bpf_dropped_packets_total", "Packets that the data path dropped.", []string{"reason"}, nil)
	mapMemory   = prometheus.NewDesc("slipway_bpf_map_memory_bytes", "Memory of the kernel for a table of the data path.", []string{"map"}, nil)
)

// Describe is part of prometheus.Collector.
func (t *tables) Describe(out chan<- *prometheus.Desc) {
	out <- mapCapacity
	out <- mapBound
	out <- mapEntries
	out <- mapMemory
	out <- dropped
}

// Collect is part of prometheus.Collector.
func (t *tables) Collect(out chan<- prometheus.Metric) {
	all, err := t.usage()
	if err != nil {
		out <- prometheus.NewInvalidMetric(mapEntries, err)
		return
	}
	for _, u := range all {
		out <- prometheus.MustNewConstMetric(mapCapacity, prometheus.GaugeValue, float64(u.Capacity), u.Table)
		out <- prometheus.MustNewConstMetric(mapBound, prometheus.GaugeValue, float64(u.Bound), u.Table)
		out <- prometheus.MustNewConstMetric(mapEntries, prometheus.GaugeValue, float64(u.Entries), u.Table)
		out <- prometheus.MustNewConstMetric(mapMemory, prometheus.GaugeValue, float64(u.Memory), u.Table)
	}
	drops, err := t.datapath.Drops()
	if err != nil {
		out <- prometheus.NewInvalidMetric(dropped, err)
		return
	}
	for reason, n := range drops {
		out <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(n), reason.String())
	}
}
