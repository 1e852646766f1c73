// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// The flags of enum frontend_flags in lib/types.h.
const (
	frontendSilent = 1 << 0
	frontendMaglev = 1 << 1
	frontendDirect = 1 << 2
)

// SetFrontend points a frontend at a range of slots. A packet sees the range
// from before or this one, never a mixture.
func (d *Datapath) SetFrontend(f Frontend, r Range) error {
	value := uplinkFrontend{
		First: r.First, Count: r.Count, Generation: r.Generation, Affinity: r.Affinity, Service: r.Service, Sources: r.Sources,
	}
	if r.Silent {
		value.Flags |= frontendSilent
	}
	if r.Maglev {
		value.Flags |= frontendMaglev
	}
	if r.Direct {
		value.Flags |= frontendDirect
	}
	if err := d.grow[TableFrontends].now.Load().Put(f.key(), value); err != nil {
		return fmt.Errorf("set frontend %v: %w", f, err)
	}
	return nil
}

// DeleteFrontend removes a frontend; one that is not there is no error.
func (d *Datapath) DeleteFrontend(f Frontend) error {
	if err := d.grow[TableFrontends].now.Load().Delete(f.key()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete frontend %v: %w", f, err)
	}
	return nil
}

// Frontends returns all frontends with their ranges.
func (d *Datapath) Frontends() (map[Frontend]Range, error) {
	out := map[Frontend]Range{}
	var key uplinkFrontendKey
	var value uplinkFrontend
	entries := d.grow[TableFrontends].now.Load().Iterate()
	for entries.Next(&key, &value) {
		out[frontendOf(key)] = Range{
			First: value.First, Count: value.Count, Generation: value.Generation, Affinity: value.Affinity,
			Service: value.Service, Sources: value.Sources,
			Silent: value.Flags&frontendSilent != 0, Maglev: value.Flags&frontendMaglev != 0,
			Direct: value.Flags&frontendDirect != 0,
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list frontends: %w", err)
	}
	return out, nil
}
