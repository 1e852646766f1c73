// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
)

var (
	// ErrNoDatapath says that nothing is pinned on this machine.
	ErrNoDatapath = errors.New("no data path on this machine")
	// ErrOtherLayout says that the tables are those of another release.
	ErrOtherLayout = errors.New("the data path is that of another release")
)

// View reads the tables of the data path that is pinned on this machine,
// whether or not the process runs that has made it. It cannot change them.
type View struct{ d *Datapath }

// OpenView opens the tables that are pinned under pinDir.
func OpenView(pinDir string) (*View, error) {
	d := &Datapath{cfg: Config{PinDir: pinDir}}
	if err := d.openPinned(); err != nil {
		d.Close()
		return nil, err
	}
	return &View{d}, nil
}

// Close gives up the handles.
func (v *View) Close() error { return v.d.Close() }

func (d *Datapath) openPinned() error {
	blueprint, err := loadUplink()
	if err != nil {
		return fmt.Errorf("read bpf object uplink: %w", err)
	}
	for name, at := range d.maps.byName() {
		if *at, err = d.openTable(name, blueprint.Maps[name]); err != nil {
			return err
		}
		d.onClose((*at).Close)
	}
	if err := d.newGrowing(blueprint); err != nil {
		return err
	}
	outers := d.maps.byName()
	for t, g := range d.grow {
		g.outer = *outers[string(t)]
	}
	return d.adoptGrowing()
}

// adoptGrowing opens the tables as they are now. The order is that in which they
// refer to each other: what a frontend leads to was there before it.
func (d *Datapath) adoptGrowing() error {
	for _, t := range []Table{TableFrontends, TableSlots, TableBackends} {
		err := d.grow[t].adopt()
		for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < 10; tries++ {
			// It was replaced between a look for its id and one for the id.
			err = d.grow[t].adopt()
		}
		if err != nil {
			return fmt.Errorf("open table %s: %w", t, err)
		}
	}
	return nil
}

// openTable opens a pinned map whose entries are what this program knows. Its
// size may be another.
func (d *Datapath) openTable(name string, want *ebpf.MapSpec) (*ebpf.Map, error) {
	path := filepath.Join(d.cfg.mapDir(), name)
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: !d.writes})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, d.missing(name)
	case err != nil:
		return nil, fmt.Errorf("open pinned map %s: %w", name, err)
	}
	if m.Type() != want.Type || m.KeySize() != want.KeySize || m.ValueSize() != want.ValueSize {
		m.Close()
		return nil, fmt.Errorf("%w: entries of %s have another layout", ErrOtherLayout, name)
	}
	return m, nil
}

// missing tells no data path from one without a certain table.
func (d *Datapath) missing(table string) error {
	if entries, err := os.ReadDir(d.cfg.mapDir()); err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: it has no table %s", ErrOtherLayout, table)
	}
	return fmt.Errorf("%w: nothing is pinned in %s", ErrNoDatapath, d.cfg.mapDir())
}

// byName are all maps by the names of their pins.
func (m *uplinkMaps) byName() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		"affinities": &m.Affinities, "backends": &m.Backends, "clients": &m.Clients, "conntrack": &m.Conntrack, "drops": &m.Drops,
		"endpoints": &m.Endpoints, "fragments": &m.Fragments, "frontends": &m.Frontends, "peers": &m.Peers, "pods": &m.Pods, "reverses": &m.Reverses,
		"settings": &m.Settings, "slots": &m.Slots, "sources": &m.Sources, "uplinks": &m.Uplinks,
	}
}

// Frontends returns all frontends with their ranges.
func (v *View) Frontends() (map[Frontend]Range, error) {
	out, err := v.d.Frontends()
	if err != nil {
		return nil, err
	}
	// What they lead to may be in larger tables by now.
	return out, v.d.adoptGrowing()
}

// Backends returns what a range leads to, in the order of its slots. Of a Maglev
// table each backend is there once, in the order of addresses.
func (v *View) Backends(r Range) ([]Backend, error) {
	ids, err := v.d.Slots(r.First, r.Count)
	if err != nil {
		return nil, err
	}
	if r.Maglev {
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	out := make([]Backend, len(ids))
	for i, id := range ids {
		if out[i], err = v.d.Backend(id); err != nil {
			return nil, err
		}
	}
	if r.Maglev {
		slices.SortFunc(out, func(a, b Backend) int {
			return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Flags, b.Flags))
		})
	}
	return out, nil
}

// Sources returns all sets of source ranges.
func (v *View) Sources() (map[uint32][]netip.Prefix, error) { return v.d.Sources() }

// Summary says what is attached and what was dropped.
func (v *View) Summary() (Summary, error) { return v.d.Summary() }
