// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// loader loads compiled files; all of them share the pinned maps. Only files whose
// maps are there already may be loaded at once, each by a loader of its own.
type loader struct {
	datapath *Datapath
	// types are those of the kernel, which take long to read. Two goroutines
	// must not use them at the same time: the library reads the types of a module
	// without a lock on those of the kernel (cilium/ebpf 0.22.0).
	types *btf.Cache
	has   featureSet
}

func (d *Datapath) newLoader() *loader { return &loader{datapath: d, types: btf.NewCache()} }

// warm reads the types of the kernel.
func (l *loader) warm() error {
	if _, err := l.types.Kernel(); err != nil {
		return fmt.Errorf("read types of the kernel: %w", err)
	}
	return nil
}

// tcObjects are the programs for traffic control, which look into the connection
// tracking of netfilter where the kernel has it.
type tcObjects struct {
	tracks bool
	pod    podObjects
	uplink uplinkObjects
}

func (l *loader) loadTC() (*tcObjects, error) {
	out := &tcObjects{tracks: l.has[FeatureCTLookup]}
	if err := l.load("pod", loadPod, &out.pod); err != nil {
		return nil, err
	}
	return out, l.load("uplink", loadUplink, &out.uplink)
}

// load loads one file, until the data path is closed.
func (l *loader) load(name string, spec func() (*ebpf.CollectionSpec, error), into io.Closer) error {
	options := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: l.datapath.cfg.mapDir()}, Cache: l.types}
	for {
		blueprint, err := spec()
		if err != nil {
			return fmt.Errorf("read bpf object %s: %w", name, err)
		}
		if err := l.has.apply(blueprint); err != nil {
			return fmt.Errorf("read bpf object %s: %w", name, err)
		}
		if err = blueprint.LoadAndAssign(into, options); err == nil {
			l.datapath.onClose(into.Close)
			return nil
		}
		replaced, unpinErr := l.unpinIncompatible(blueprint)
		if !errors.Is(err, ebpf.ErrMapIncompatible) || unpinErr != nil || replaced == 0 {
			return fmt.Errorf("load bpf object %s: %w", name, errors.Join(err, unpinErr))
		}
	}
}

// unpinIncompatible unpins the maps that do not fit the object, and returns
// how many those were. Programs of the other release keep theirs until their
// links are updated.
func (l *loader) unpinIncompatible(spec *ebpf.CollectionSpec) (int, error) {
	count := 0
	for name, want := range spec.Maps {
		if want.Pinning != ebpf.PinByName {
			continue
		}
		path := filepath.Join(l.datapath.cfg.mapDir(), name)
		have, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return count, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		err = want.Compatible(have)
		have.Close()
		if err == nil {
			continue
		}
		l.datapath.cfg.Log.Warn("pinned map has another layout, making a new one", "map", name, "err", err)
		if err := os.Remove(path); err != nil {
			return count, fmt.Errorf("unpin map %s: %w", name, err)
		}
		count++
	}
	return count, nil
}
