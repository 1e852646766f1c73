// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// share is the part of the machine's memory that each table that grows may take
// when it is full: 1/share.
const share = 64

// most is how many entries a table may have on the largest machine.
const most = 1 << 24

// entrySizes are what the kernel takes for an entry of a table that is full: of a
// hash table the bucket, and the element with its header.
var entrySizes = map[Table]uint64{TableFrontends: 16 + 128, TableSlots: 8, TableBackends: 24}

// boundOf is how far a table may grow: to the largest power of two that fits
// into its share of memory.
func boundOf(t Table, memory uint64) uint32 {
	bound := uint32(1)
	for bound < most && uint64(2*bound)*entrySizes[t] <= memory/share {
		bound *= 2
	}
	return bound
}

// machineMemory is that of this machine, or what the configuration says.
func (c Config) machineMemory() (uint64, error) {
	if c.Memory != 0 {
		return c.Memory, nil
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("read size of memory: %w", err)
	}
	return info.Totalram * uint64(info.Unit), nil
}

// newGrowing makes the tables that grow, without their maps yet.
func (d *Datapath) newGrowing(blueprint *ebpf.CollectionSpec) error {
	memory, err := d.cfg.machineMemory()
	if err != nil {
		return err
	}
	d.grow = map[Table]*growing{}
	for t := range entrySizes {
		spec := blueprint.Maps[string(t)].InnerMap.Copy()
		spec.Name = string(t)
		d.grow[t] = &growing{spec: spec, bound: boundOf(t, memory)}
		d.onClose(d.grow[t].close)
	}
	return nil
}

// openGrowing adopts the tables that grow, or makes and pins them, before a
// program can look for them. One of another layout is replaced.
func (d *Datapath) openGrowing() error {
	blueprint, err := loadUplink()
	if err != nil {
		return fmt.Errorf("read bpf object uplink: %w", err)
	}
	if err := d.newGrowing(blueprint); err != nil {
		return err
	}
	// At once, as the kernel makes each wait.
	var group errgroup.Group
	for t, g := range d.grow {
		group.Go(func() error { return d.adoptTable(t, g, blueprint.Maps[string(t)]) })
	}
	return group.Wait()
}

func (d *Datapath) adoptTable(t Table, g *growing, outer *ebpf.MapSpec) error {
	err := g.open(outer, d.cfg.mapDir())
	if errors.Is(err, ErrOtherLayout) || errors.Is(err, ebpf.ErrMapIncompatible) {
		d.cfg.Log.Warn("pinned map has another layout, making a new one", "map", t, "err", err)
		if err = os.Remove(filepath.Join(d.cfg.mapDir(), string(t))); err == nil {
			err = g.open(outer, d.cfg.mapDir())
		}
	}
	if err != nil {
		return fmt.Errorf("open table %s: %w", t, err)
	}
	return nil
}

// open adopts the outer map that is pinned in a directory, or pins a new one.
func (g *growing) open(outer *ebpf.MapSpec, dir string) error {
	var err error
	if g.outer, err = ebpf.NewMapWithOptions(outer, ebpf.MapOptions{PinPath: dir}); err != nil {
		return err
	}
	err = g.adopt()
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		// It is new, or whoever made it got no further. Only a map of another
		// layout does not take an element.
		if err = g.replace(min(g.spec.MaxEntries, g.bound)); errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: %w", ErrOtherLayout, err)
		}
	}
	if err != nil {
		g.outer.Close()
	}
	return err
}
