// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
)

// Config of a Datapath.
type Config struct {
	// PinDir is a directory on a BPF file system; it is made when missing.
	PinDir string
	// Memory is that of the machine in bytes, from which it follows how far
	// tables may grow; 0 for what this machine has.
	Memory uint64
	Log    *slog.Logger
}

// Datapath is the loaded data path of a node.
type Datapath struct {
	cfg    Config
	maps   uplinkMaps
	sock   sockPrograms
	pod    podPrograms
	uplink uplinkPrograms
	wire   wirePrograms
	count  countPrograms
	// grow are the tables that the control plane writes; in maps are those
	// around them.
	grow map[Table]*growing
	// writes says that tables that are opened by their pins may be changed.
	writes bool

	// scanning keeps searches for stale sockets apart; scan is nil until the
	// first.
	scanning sync.Mutex
	scan     *scanner

	mu    sync.Mutex
	close []func() error
	// wired are the uplinks that were told of in the log, with whether they
	// have XDP.
	wired map[int]bool
}

// Open loads the programs and adopts the maps that are pinned, or makes and
// pins new ones. A pinned map of another layout, left by another release, is
// replaced; its entries are made anew by the control plane.
func Open(cfg Config) (*Datapath, error) {
	for _, dir := range []string{cfg.mapDir(), cfg.linkDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory for pins: %w", err)
		}
	}
	d := &Datapath{cfg: cfg, wired: map[int]bool{}}
	if err := d.load(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (c Config) mapDir() string  { return filepath.Join(c.PinDir, "maps") }
func (c Config) linkDir() string { return filepath.Join(c.PinDir, "links") }

func (d *Datapath) load() error {
	if err := d.openGrowing(); err != nil {
		return err
	}
	var sock sockObjects
	if err := d.loadObject("sock", loadSock, &sock); err != nil {
		return err
	}
	d.sock = sock.sockPrograms
	d.onClose(sock.Close)
	var pod podObjects
	if err := d.loadObject("pod", loadPod, &pod); err != nil {
		return err
	}
	d.pod = pod.podPrograms
	d.onClose(pod.Close)
	var uplink uplinkObjects
	if err := d.loadObject("uplink", loadUplink, &uplink); err != nil {
		return err
	}
	d.uplink, d.maps = uplink.uplinkPrograms, uplink.uplinkMaps
	d.onClose(uplink.Close)
	var wire wireObjects
	if err := d.loadObject("wire", loadWire, &wire); err != nil {
		return err
	}
	d.wire = wire.wirePrograms
	d.onClose(wire.Close)
	var count countObjects
	if err := d.loadObject("count", loadCount, &count); err != nil {
		return err
	}
	d.count = count.countPrograms
	d.onClose(count.Close)
	return nil
}

// loadObject loads one compiled file; all of them share the pinned maps.
func (d *Datapath) loadObject(name string, spec func() (*ebpf.CollectionSpec, error), into any) error {
	for {
		blueprint, err := spec()
		if err != nil {
			return fmt.Errorf("read bpf object %s: %w", name, err)
		}
		err = blueprint.LoadAndAssign(into, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.cfg.mapDir()}})
		if err == nil {
			return nil
		}
		replaced, unpinErr := d.unpinIncompatible(blueprint)
		if !errors.Is(err, ebpf.ErrMapIncompatible) || unpinErr != nil || replaced == 0 {
			return fmt.Errorf("load bpf object %s: %w", name, errors.Join(err, unpinErr))
		}
	}
}

// unpinIncompatible unpins the maps that do not fit the object, and returns
// how many those were. Programs of the other release keep theirs until their
// links are updated.
func (d *Datapath) unpinIncompatible(spec *ebpf.CollectionSpec) (int, error) {
	count := 0
	for name, want := range spec.Maps {
		if want.Pinning != ebpf.PinByName {
			continue
		}
		path := filepath.Join(d.cfg.mapDir(), name)
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
		d.cfg.Log.Warn("pinned map has another layout, making a new one", "map", name, "err", err)
		if err := os.Remove(path); err != nil {
			return count, fmt.Errorf("unpin map %s: %w", name, err)
		}
		count++
	}
	return count, nil
}

func (d *Datapath) onClose(fn func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.close = append(d.close, fn)
}

// Close gives up the handles of this process; all that is pinned goes on.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, fn := range d.close {
		errs = append(errs, fn())
	}
	d.close = nil
	return errors.Join(errs...)
}
