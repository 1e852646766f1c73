// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/bpf"
)

// fakeTables are as full as a test says; of the connections, fresh are in use.
type fakeTables struct {
	usage []bpf.Usage
	fresh int
	err   error
}

func (f *fakeTables) Usage() ([]bpf.Usage, error) { return append([]bpf.Usage{}, f.usage...), f.err }

func (f *fakeTables) Drops() (map[bpf.DropReason]uint64, error) {
	return map[bpf.DropReason]uint64{3: 2, 7: 0}, nil
}

func (f *fakeTables) Conntrack() iter.Seq2[bpf.Conntrack, error] {
	return func(yield func(bpf.Conntrack, error) bool) {
		for i := range 100 {
			c := bpf.Conntrack{Idle: time.Hour}
			if i < f.fresh {
				c.Idle = time.Second
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

func TestTablesHealth(t *testing.T) {
	for name, tt := range map[string]struct {
		tables fakeTables
		slots  uint32
		ok     bool
		says   string
	}{
		"room": {fakeTables{usage: []bpf.Usage{
			{Table: "frontends", Capacity: 100, Bound: 100, Entries: 89, Memory: 3e6}, {Table: "drops", Capacity: 9, Bound: 9, Uncounted: true, Memory: 1e6},
		}}, 0, true, "have room, take 4 MB of the kernel's memory"},
		"hash":                   {fakeTables{usage: []bpf.Usage{{Table: "frontends", Capacity: 100, Bound: 100, Entries: 90}}}, 0, false, "frontends is 90 % full (90 of 100)"},
		"one that may grow":      {fakeTables{usage: []bpf.Usage{{Table: "frontends", Capacity: 100, Bound: 200, Entries: 100}}}, 0, true, "have room, take 0 MB of the kernel's memory"},
		"array":                  {fakeTables{usage: []bpf.Usage{{Table: "slots", Capacity: 100, Bound: 100, Uncounted: true}}}, 95, false, "slots is 95 % full (95 of 100)"},
		"old connections":        {fakeTables{usage: []bpf.Usage{{Table: "conntrack", Capacity: 100, Bound: 100, Entries: 100, Evicts: true}}, fresh: 89}, 0, true, "have room, take 0 MB of the kernel's memory"},
		"connections in use":     {fakeTables{usage: []bpf.Usage{{Table: "conntrack", Capacity: 100, Bound: 100, Entries: 100, Evicts: true}}, fresh: 91}, 0, false, "conntrack is 91 % full (91 of 100)"},
		"others that give way":   {fakeTables{usage: []bpf.Usage{{Table: "reverses", Capacity: 100, Bound: 100, Entries: 100, Evicts: true}}, fresh: 91}, 0, true, "have room, take 0 MB of the kernel's memory"},
		"that cannot be counted": {fakeTables{err: errors.New("no program")}, 0, false, "no program"},
	} {
		t.Run(name, func(t *testing.T) {
			tb := &tables{datapath: &tt.tables, log: slog.New(slog.DiscardHandler), written: func() map[string]uint32 {
				return map[string]uint32{"slots": tt.slots}
			}}
			if h := tb.health(); h.OK != tt.ok || h.Says != tt.says || (h.Do == "") != tt.ok {
				t.Errorf("got %+v, expected %q", h, tt.says)
			}
		})
	}
}

// TestTablesLog says once that a table is nearly full, and once that it is not.
func TestTablesLog(t *testing.T) {
	var out bytes.Buffer
	fake := &fakeTables{usage: []bpf.Usage{{Table: "frontends", Capacity: 100, Bound: 100, Entries: 95}}}
	var events []string
	tb := &tables{
		datapath: fake, log: slog.New(slog.NewTextHandler(&out, nil)), written: func() map[string]uint32 { return nil },
		tell: func(reason, message string) { events = append(events, reason+" "+message) },
	}
	for _, entries := range []uint32{95, 96, 10, 10} {
		fake.usage[0].Entries = entries
		if _, _, err := tb.check(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.TrimSpace(line[strings.Index(line, "level="):]))
	}
	want := []string{`level=WARN msg="table is nearly full" table=frontends entries=95 bound=100`, `level=INFO msg="table has room again" table=frontends`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"TableNearlyFull frontends is 95 % full (95 of 100)"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTablesMetrics(t *testing.T) {
	fake := &fakeTables{usage: []bpf.Usage{
		{Table: "conntrack", Capacity: 100, Bound: 100, Entries: 7, Memory: 4096}, {Table: "drops", Capacity: 9, Bound: 9, Uncounted: true, Memory: 1}, {Table: "slots", Capacity: 50, Bound: 800, Uncounted: true, Memory: 2},
	}}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&tables{datapath: fake, written: func() map[string]uint32 { return map[string]uint32{"slots": 5} }})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[strings.TrimPrefix(f.GetName(), "slipway_bpf_")+" "+m.Label[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"map_capacity_entries conntrack": 100, "map_bound_entries conntrack": 100, "map_entries conntrack": 7, "map_memory_bytes conntrack": 4096,
		"map_capacity_entries drops": 9, "map_bound_entries drops": 9, "map_entries drops": 9, "map_memory_bytes drops": 1,
		"map_capacity_entries slots": 50, "map_bound_entries slots": 800, "map_entries slots": 5, "map_memory_bytes slots": 2,
		"dropped_packets_total no_endpoint": 2, "dropped_packets_total fib": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
