// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
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
	// The first one makes the maps, which all others only find.
	l := d.newLoader()
	var sock sockObjects
	if err := l.load("sock", loadSock, &sock); err != nil {
		return err
	}
	var pod podObjects
	var uplink uplinkObjects
	var wire wireObjects
	var count countObjects
	var group errgroup.Group
	group.Go(func() error { return l.load("pod", loadPod, &pod) })
	group.Go(func() error { return l.load("uplink", loadUplink, &uplink) })
	group.Go(func() error { return l.load("wire", loadWire, &wire) })
	group.Go(func() error { return l.load("count", loadCount, &count) })
	if err := group.Wait(); err != nil {
		return err
	}
	d.sock, d.pod, d.uplink, d.maps = sock.sockPrograms, pod.podPrograms, uplink.uplinkPrograms, uplink.uplinkMaps
	d.wire, d.count = wire.wirePrograms, count.countPrograms
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
