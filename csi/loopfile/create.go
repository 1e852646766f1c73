// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/filesystem"
)

// Create makes the volume or returns the one that is there already.
// Errors: backend.ErrExists, backend.ErrNoSpace, backend.ErrUnsupported,
// backend.ErrSize.
func (p *Pool) Create(ctx context.Context, spec backend.Spec) (backend.Volume, error) {
	have, err := p.Get(spec.ID)
	switch {
	case err == nil && have.Satisfies(spec):
		return have, nil
	case err == nil:
		return backend.Volume{}, fmt.Errorf("create volume %s: %w", spec.ID, backend.ErrExists)
	case !errors.Is(err, backend.ErrNotFound):
		return backend.Volume{}, fmt.Errorf("create volume %s: %w", spec.ID, err)
	}
	v, err := p.plan(spec)
	if err == nil {
		err = p.build(ctx, v)
	}
	if err != nil {
		return backend.Volume{}, fmt.Errorf("create volume %s: %w", spec.ID, err)
	}
	return v, nil
}

// plan says what the volume will be.
func (p *Pool) plan(spec backend.Spec) (backend.Volume, error) {
	if !slices.Contains(p.Capabilities().FSTypes, spec.FSType) {
		return backend.Volume{}, fmt.Errorf("file system %q: %w on this node", spec.FSType, backend.ErrUnsupported)
	}
	size := alignUp(max(spec.Bytes, filesystem.MinBytes(spec.FSType)))
	if spec.LimitBytes != 0 && size > spec.LimitBytes {
		return backend.Volume{}, fmt.Errorf("%d bytes are the least possible, %d the limit: %w", size, spec.LimitBytes, backend.ErrSize)
	}
	return backend.Volume{
		ID: spec.ID, Name: spec.Name, Bytes: size, FSType: spec.FSType,
		Created: time.Now().UTC().Truncate(time.Second),
	}, nil
}

// build makes the volume aside and moves it in place. Nothing stays when it
// fails.
func (p *Pool) build(ctx context.Context, v backend.Volume) (err error) {
	aside := p.dir(creatingDir, v.ID)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(aside))
		}
	}()
	image := filepath.Join(aside, imageName)
	if err := p.allocate(image, v.Bytes); err != nil {
		return err
	}
	if err := p.disk.Format(ctx, image, v.FSType); err != nil {
		return err
	}
	// mkfs may have turned reserved blocks into holes.
	if err := p.refill(image); err != nil {
		return err
	}
	if err := writeMetadata(aside, v); err != nil {
		return err
	}
	return p.disk.Move(aside, p.dir(volumesDir, v.ID))
}

// allocate makes the image and reserves all its space. One image at a time,
// so that two do not count on the same free bytes.
func (p *Pool) allocate(image string, bytes int64) error {
	p.space.Lock()
	defer p.space.Unlock()
	_, free, err := p.free()
	if err != nil {
		return err
	}
	if bytes > free {
		return &backend.NoSpaceError{Pool: p.config.Root, Needed: bytes, Available: free}
	}
	err = p.disk.Allocate(image, bytes)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EDQUOT) {
		return &backend.NoSpaceError{Pool: p.config.Root, Needed: bytes, Available: free}
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("reserve space in %s: the file system there: %w", p.config.Root, backend.ErrUnsupported)
	}
	return err
}

// refill reserves the space of holes in the image again.
func (p *Pool) refill(image string) error {
	p.space.Lock()
	defer p.space.Unlock()
	return p.disk.Refill(image)
}

// Delete removes the volume. A volume that is attached stays and
// backend.ErrInUse is returned; one that is not there is no error.
func (p *Pool) Delete(ctx context.Context, id backend.ID) error {
	used, err := p.Attached(id)
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	if len(used) > 0 {
		return fmt.Errorf("delete volume %s: %w", id, backend.ErrInUse)
	}
	aside := p.dir(deletingDir, id)
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	err = p.disk.Move(p.dir(volumesDir, id), aside)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return nil
}
