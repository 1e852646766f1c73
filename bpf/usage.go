// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

// Usage is how full a table is.
type Usage struct {
	// Table is the name of the map and of its pin.
	Table    string
	Capacity uint32
	// Bound is what Capacity may grow to.
	Bound   uint32
	Entries uint32
	// Uncounted tells that the kernel does not know Entries: an array always
	// has all, and of a trie only the writer knows.
	Uncounted bool
	// Evicts tells that a new entry takes the place of the one that was not
	// used for longest: such a table is full in time, and that is no fault.
	Evicts bool
	// Memory is what the kernel has for it, in bytes.
	Memory uint64
}

// Usage returns how full all tables are, by name. What it costs does not depend
// on how full they are, unless the kernel lacks FeatureElemCount.
func (d *Datapath) Usage() ([]Usage, error) {
	counts, err := d.counts()
	if err != nil {
		return nil, err
	}
	tables := d.maps.byName()
	var out []Usage
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		m := *tables[name]
		bound := m.MaxEntries()
		if g := d.grow[Table(name)]; g != nil {
			m, bound = g.now.Load().Map, g.bound
		}
		u := Usage{Table: name, Capacity: m.MaxEntries(), Bound: bound, Evicts: m.Type() == ebpf.LRUHash}
		// The kernel adds up what CPUs have counted, while others go on.
		n, counted := counts[name]
		u.Entries, u.Uncounted = uint32(max(0, n)), !counted
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("read size of table %s: %w", name, err)
		}
		u.Memory, _ = info.Memlock()
		out = append(out, u)
	}
	return out, nil
}

// loadCount loads the program that counts entries: by the kernel's own numbers,
// or, where it does not tell them, by a walk through the tables.
func (d *Datapath) loadCount(l *loader) error {
	if d.has[FeatureElemCount] {
		var told toldCounts
		err := l.load("count", loadCount, &told)
		d.count = told.Program
		return err
	}
	var walked walkedCounts
	err := l.load("count", loadCount, &walked)
	d.count = walked.Program
	return err
}

type toldCounts struct {
	Program *ebpf.Program `ebpf:"count_tables"`
}

type walkedCounts struct {
	Program *ebpf.Program `ebpf:"walk_tables"`
}

func (c *toldCounts) Close() error   { return c.Program.Close() }
func (c *walkedCounts) Close() error { return c.Program.Close() }

// counts returns the entries of all hash tables.
func (d *Datapath) counts() (map[string]int64, error) {
	var n countTableCounts
	code, err := d.count.Run(&ebpf.RunOptions{Context: n, ContextOut: &n})
	if err != nil || code != 0 {
		return nil, fmt.Errorf("count entries of tables: code %d: %w", code, err)
	}
	return countsOf(n), nil
}

func countsOf(n countTableCounts) map[string]int64 {
	return map[string]int64{
		"affinities": n.Affinities, "clients": n.Clients, "conntrack": n.Conntrack, "endpoints": n.Endpoints,
		"fragments": n.Fragments, "frontends": n.Frontends, "pods": n.Pods, "reverses": n.Reverses, "uplinks": n.Uplinks,
	}
}
