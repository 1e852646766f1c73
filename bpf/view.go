// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

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
	if d.slots, err = mapArray(d.maps.Slots); err != nil {
		return fmt.Errorf("map slots into memory: %w", err)
	}
	if d.bends, err = mapArray(d.maps.Backends); err != nil {
		return fmt.Errorf("map backends into memory: %w", err)
	}
	return nil
}

// openTable opens a pinned map whose entries are what this program knows. Its
// size may be another.
func (d *Datapath) openTable(name string, want *ebpf.MapSpec) (*ebpf.Map, error) {
	path := filepath.Join(d.cfg.mapDir(), name)
	// An array is mapped into memory, which the kernel refuses for a handle
	// that may only read.
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: want.Type != ebpf.Array && !d.writes})
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
		"affinities": &m.Affinities, "backends": &m.Backends, "conntrack": &m.Conntrack, "drops": &m.Drops,
		"endpoints": &m.Endpoints, "frontends": &m.Frontends, "pods": &m.Pods, "reverses": &m.Reverses,
		"settings": &m.Settings, "slots": &m.Slots, "sources": &m.Sources, "uplinks": &m.Uplinks,
	}
}

// Frontends returns all frontends with their ranges.
func (v *View) Frontends() (map[Frontend]Range, error) { return v.d.Frontends() }

// Backends returns what a range leads to, in the order of its slots.
func (v *View) Backends(r Range) ([]Backend, error) {
	ids, err := v.d.Slots(r.First, r.Count)
	if err != nil {
		return nil, err
	}
	out := make([]Backend, len(ids))
	for i, id := range ids {
		if out[i], err = v.d.Backend(id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Sources returns all sets of source ranges.
func (v *View) Sources() (map[uint32][]netip.Prefix, error) { return v.d.Sources() }

// Summary says what is attached and what was dropped.
func (v *View) Summary() (Summary, error) { return v.d.Summary() }
