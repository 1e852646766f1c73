// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/csi/loopfile"
	"slipway.dev/slipway/csi/mount"
	"slipway.dev/slipway/csi/provisioner"
	"slipway.dev/slipway/csi/server"
)

// maintainEvery is how often the backend looks after its volumes.
const maintainEvery = time.Minute

// Driver is the storage driver of one node.
type Driver struct {
	config      Config
	backend     backend.Backend
	services    *server.Server
	provisioner *provisioner.Provisioner
	metrics     *metrics
}

// New makes a driver and the directories it needs; it serves nothing yet.
func New(config Config) (*Driver, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure csi driver: %w", err)
	}
	pool, err := loopfile.New(loopfile.Config{Root: config.Root, ReserveBytes: config.ReserveBytes})
	if err != nil {
		return nil, fmt.Errorf("configure csi driver: %w", err)
	}
	services, err := server.New(server.Config{
		NodeName: config.NodeName, Version: config.Version,
		Backend: pool, Mounts: mount.Table{}, Check: filesystem.Check, Log: config.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("configure csi driver: %w", err)
	}
	d := &Driver{config: config, backend: pool, services: services}
	if d.metrics, err = newMetrics(config.Registry, pool, config.Log); err != nil {
		return nil, fmt.Errorf("configure csi driver: %w", err)
	}
	if config.Client != nil {
		d.provisioner, err = provisioner.New(provisioner.Config{
			NodeName: config.NodeName, Client: config.Client, Log: config.Log,
			Controller: &observedController{ControllerServer: services.Controller(), around: d.around},
		})
		if err != nil {
			return nil, fmt.Errorf("configure csi driver: %w", err)
		}
	}
	return d, nil
}

// Run removes what a crash left behind, serves kubelet, and provisions,
// until the context ends or a part fails. It can be called again.
func (d *Driver) Run(ctx context.Context) error {
	lock, err := lockRoot(d.config.Root)
	if err != nil {
		return fmt.Errorf("run csi driver: %w", err)
	}
	defer lock.Close()
	if err := d.backend.Recover(ctx); err != nil {
		return fmt.Errorf("run csi driver: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.servePlugin(ctx) })
	group.Go(func() error { return d.serveRegistration(ctx) })
	group.Go(func() error { return d.maintain(ctx) })
	if d.provisioner != nil {
		group.Go(func() error { return d.provisioner.Run(ctx) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run csi driver: %w", err)
	}
	return nil
}

func (d *Driver) maintain(ctx context.Context) error {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		if err := d.backend.Maintain(ctx); err != nil && ctx.Err() == nil {
			d.config.Log.Warn("volumes need attention", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Volume is one volume of this node, for status output.
type Volume struct {
	backend.Volume
	// Handle is the volumeHandle of its PersistentVolume.
	Handle string
	// Attached says whether it is a device of this node now.
	Attached bool
}

// Volumes returns the volumes of this node, ordered by id. It also works
// while no driver runs.
func (d *Driver) Volumes() ([]Volume, error) {
	stored, err := d.backend.List()
	if err != nil {
		return nil, err
	}
	volumes := make([]Volume, 0, len(stored))
	for _, v := range stored {
		devices, err := d.backend.Attached(v.ID)
		if err != nil {
			return nil, err
		}
		handle := backend.Handle{ID: v.ID, Node: d.config.NodeName}
		volumes = append(volumes, Volume{Volume: v, Handle: handle.String(), Attached: len(devices) > 0})
	}
	return volumes, nil
}

// lockRoot makes sure that no other process works on the root. The lock goes
// with the process, however that ends.
func lockRoot(root string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock root: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock root %s: another driver is running: %w", root, err)
	}
	return f, nil
}
