// SPDX-License-Identifier: Apache-2.0

// Package loopfile is the backend that keeps each volume as one image file,
// with all its space reserved when it is made, and attaches it as a loop
// device. It works on any file system that can reserve space (ext4, xfs,
// btrfs, tmpfs).
//
//	<root>/volumes/<id>/volume.json   what the volume is
//	<root>/volumes/<id>/image         its content
//	<root>/creating/<id>/             being made; garbage after a crash
//	<root>/deleting/<id>/             being removed; garbage after a crash
//
// A volume exists when its directory is below volumes: it is made complete
// below creating and moved with one rename, and deleted by one rename out
// again. So there is no half-made volume at any instant, and a file system
// is made once, never on an image that may hold data.
//
// Calls for one volume are serialised by the caller. The package serialises
// what volumes share, the free space.
package loopfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/filesystem"
)

const (
	imageName    = "image"
	metadataName = "volume.json"

	volumesDir  = "volumes"
	creatingDir = "creating"
	deletingDir = "deleting"
)

// Alignment of image sizes in bytes.
const Alignment = 1 << 20

// Config of a pool.
type Config struct {
	// Root is the directory that holds everything; absolute.
	Root string
	// ReserveBytes stay free in the file system below Root whatever volumes
	// are asked for. 0 means a twentieth of the file system, at most 1 GiB;
	// a negative number means none.
	ReserveBytes int64
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Root) || filepath.Clean(c.Root) == "/" {
		return fmt.Errorf("root %q must be an absolute path below /", c.Root)
	}
	return nil
}

// Pool is the backend.
type Pool struct {
	config Config
	disk   disk
	// space is held while free space is looked at and taken.
	space sync.Mutex
}

var _ backend.Backend = (*Pool)(nil)

// New makes the directories of a pool. It does not look at volumes.
func New(config Config) (*Pool, error) {
	return newPool(config, hostDisk{})
}

func newPool(config Config, d disk) (*Pool, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	p := &Pool{config: config, disk: d}
	for _, dir := range []string{volumesDir, creatingDir, deletingDir} {
		if err := os.MkdirAll(filepath.Join(config.Root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("open pool: %w", err)
		}
	}
	return p, nil
}

// Recover removes what was being made or deleted when the last process died.
func (p *Pool) Recover(ctx context.Context) error {
	for _, dir := range []string{creatingDir, deletingDir} {
		entries, err := os.ReadDir(filepath.Join(p.config.Root, dir))
		if err != nil {
			return fmt.Errorf("recover pool: %w", err)
		}
		for _, entry := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := os.RemoveAll(filepath.Join(p.config.Root, dir, entry.Name())); err != nil {
				return fmt.Errorf("recover pool: %w", err)
			}
		}
	}
	return nil
}

// Get returns the volume or backend.ErrNotFound.
func (p *Pool) Get(id backend.ID) (backend.Volume, error) {
	return readMetadata(p.dir(volumesDir, id), id)
}

// List returns all volumes, ordered by id. A volume whose description is
// damaged is left out; Maintain reports it.
func (p *Pool) List() ([]backend.Volume, error) {
	volumes, _, err := p.scan()
	return volumes, err
}

// scan returns the volumes, and what is wrong with the damaged ones.
func (p *Pool) scan() (volumes []backend.Volume, damaged []error, err error) {
	entries, err := os.ReadDir(filepath.Join(p.config.Root, volumesDir))
	if err != nil {
		return nil, nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, entry := range entries {
		id, err := backend.ParseID(entry.Name())
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		v, err := p.Get(id)
		switch {
		case err == nil:
			volumes = append(volumes, v)
		case !errors.Is(err, backend.ErrNotFound):
			damaged = append(damaged, err)
		}
	}
	slices.SortFunc(volumes, func(a, b backend.Volume) int { return cmp.Compare(a.ID, b.ID) })
	return volumes, damaged, nil
}

// Capabilities are the file systems that this machine has the tools for.
func (p *Pool) Capabilities() backend.Capabilities {
	return backend.Capabilities{FSTypes: filesystem.Installed()}
}

// Capacity of the file system below the root.
func (p *Pool) Capacity() (backend.Capacity, error) {
	total, free, err := p.free()
	if err != nil {
		return backend.Capacity{}, err
	}
	volumes, err := p.List()
	if err != nil {
		return backend.Capacity{}, err
	}
	c := backend.Capacity{Total: total, Available: alignDown(free), Volumes: int64(len(volumes))}
	for _, v := range volumes {
		c.Allocated += v.Bytes
	}
	return c, nil
}

// free returns the size of the file system and what volumes may still take.
func (p *Pool) free() (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.config.Root, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: p.config.Root, Err: err}
	}
	total = int64(st.Blocks) * st.Bsize
	return total, max(0, int64(st.Bavail)*st.Bsize-p.reserve(total)), nil
}

func (p *Pool) reserve(total int64) int64 {
	if p.config.ReserveBytes != 0 {
		return max(0, p.config.ReserveBytes)
	}
	return min(total/20, 1<<30)
}

func (p *Pool) dir(state string, id backend.ID) string {
	return filepath.Join(p.config.Root, state, string(id))
}

func (p *Pool) image(id backend.ID) string {
	return filepath.Join(p.dir(volumesDir, id), imageName)
}

// alignDown rounds bytes to what images are made of.
func alignDown(bytes int64) int64 { return bytes &^ (Alignment - 1) }

// alignUp rounds bytes to what images are made of. Sizes so large that they
// cannot be rounded stay, and fail for want of space.
func alignUp(bytes int64) int64 {
	if bytes > math.MaxInt64-Alignment {
		return bytes
	}
	return alignDown(bytes + Alignment - 1)
}
