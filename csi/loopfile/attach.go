// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"context"
	"errors"
	"fmt"
	"os"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/loop"
)

// Attach makes the volume a loop device, or returns the one it has.
func (p *Pool) Attach(ctx context.Context, id backend.ID) (backend.Device, error) {
	if _, err := p.Get(id); err != nil {
		return backend.Device{}, fmt.Errorf("attach volume %s: %w", id, err)
	}
	d, err := loop.Attach(ctx, p.image(id))
	if err != nil {
		return backend.Device{}, fmt.Errorf("attach volume %s: %w", id, err)
	}
	number, err := d.Rdev()
	if err != nil {
		return backend.Device{}, errors.Join(fmt.Errorf("attach volume %s: %w", id, err), d.Close())
	}
	return backend.Device{Closer: d, Path: d.Path(), Number: number, Fresh: d.Fresh}, nil
}

// Attached returns the loop devices that have the volume's image.
func (p *Pool) Attached(id backend.ID) ([]uint64, error) {
	numbers, err := p.disk.Devices(p.image(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find devices of volume %s: %w", id, err)
	}
	return numbers, nil
}

// Maintain reserves the space again that was given back behind our back, by
// fstrim or by a file system that zeroes blocks, and reports volumes that
// are damaged.
func (p *Pool) Maintain(ctx context.Context) error {
	volumes, failed, err := p.scan()
	if err != nil {
		return fmt.Errorf("maintain pool: %w", err)
	}
	for _, v := range volumes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// A volume that was deleted meanwhile has nothing to keep.
		if err := p.refill(p.image(v.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, fmt.Errorf("reserve space of volume %s: %w", v.ID, err))
		}
	}
	return errors.Join(failed...)
}
