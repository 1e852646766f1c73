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
	"golang.org/x/sync/errgroup"
)

// Config of a Datapath.
type Config struct {
	// PinDir is a directory on a BPF file system; it is made when missing.
	PinDir string
	// Memory is that of the machine in bytes, from which it follows how far
	// tables may grow; 0 for what this machine has.
	Memory uint64
	// Without names features that are not used although the kernel may have them,
	// for tests and measurements of what replaces them.
	Without []Feature
	Log     *slog.Logger
}

// Datapath is the loaded data path of a node.
type Datapath struct {
	cfg  Config
	maps uplinkMaps
	sock sockPrograms
	wire wirePrograms
	// count fills in how many entries the hash tables have.
	count *ebpf.Program
	// has are the features of the kernel that the programs were loaded for.
	has featureSet
	// grow are the tables that the control plane writes; in maps are those
	// around them.
	grow map[Table]*growing
	// writes says that tables that are opened by their pins may be changed.
	writes bool

	// attaching keeps attaching apart from replacing what is attached.
	attaching sync.Mutex
	tc        *tcObjects

	// scanning keeps searches for stale sockets apart; closer is nil until the
	// first.
	scanning sync.Mutex
	closer   closer

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
	for _, dir := range []string{cfg.mapDir(), cfg.linkDir(), cfg.filterDir()} {
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

// filterDir has an empty directory for each filter of traffic control, which
// cannot be pinned itself, and for each clsact queueing discipline that was added.
func (c Config) filterDir() string { return filepath.Join(c.PinDir, "filters") }

// load loads all programs, for what the kernel has.
func (d *Datapath) load() error {
	first, second := d.newLoader(), d.newLoader()
	var group errgroup.Group
	group.Go(d.openGrowing)
	group.Go(second.warm)
	group.Go(func() (err error) {
		d.has, err = probeFeatures(first.types, d.cfg.Without)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	first.has, second.has = d.has, d.has
	// The first one makes the maps, which all others only find.
	var sock sockObjects
	if err := first.load("sock", loadSock, &sock); err != nil {
		return err
	}
	var wire wireObjects
	var tc *tcObjects
	group.Go(func() (err error) {
		tc, err = second.loadTC()
		return err
	})
	group.Go(func() error {
		if err := first.load("wire", loadWire, &wire); err != nil {
			return err
		}
		return d.loadCount(first)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	d.sock, d.wire, d.tc, d.maps = sock.sockPrograms, wire.wirePrograms, tc, tc.uplink.uplinkMaps
	return nil
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
