// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"

	"slipway.dev/slipway/bpf"
)

// expect has the table of frontends grow before so many are written: to move those
// that it has takes long. Where it does not grow, room says why when it is full.
func (w *writer) expect(wanted uint32) {
	if w.wanted = wanted; wanted > w.datapath.Capacity(bpf.TableFrontends) {
		_, _ = w.datapath.Grow(bpf.TableFrontends, wanted)
	}
}

// room has a table of frontends that has none left for one more grow. All that
// are wanted fit then, as far as the bound allows.
func (w *writer) room() error {
	have := uint32(len(w.entries))
	if have < w.datapath.Capacity(bpf.TableFrontends) {
		return nil
	}
	_, err := w.datapath.Grow(bpf.TableFrontends, max(have+1, w.wanted))
	return err
}

// useBackend counts one use of a backend, in a larger table if need be.
func (w *writer) useBackend(backend bpf.Backend) (id uint32, isNew bool, err error) {
	if id, isNew, err = w.ids.use(backend); !errors.Is(err, errFull) {
		return id, isNew, err
	}
	if w.ids.capacity, err = w.datapath.Grow(bpf.TableBackends, w.ids.capacity+1); err != nil {
		return 0, false, fmt.Errorf("backends: %w", err)
	}
	return w.ids.use(backend)
}

// takeSlots returns the first slot of a range, in a larger table if need be.
func (w *writer) takeSlots(count uint32) (uint32, error) {
	first, err := w.slots.take(count)
	if !errors.Is(err, errFull) {
		return first, err
	}
	capacity, err := w.datapath.Grow(bpf.TableSlots, w.slots.capacity+count)
	w.slots.extend(capacity)
	if err != nil {
		return 0, fmt.Errorf("slots: %w", err)
	}
	// It may have grown as far as it may, and still not enough.
	if first, err = w.slots.take(count); err != nil {
		return 0, fmt.Errorf("slots: %w: %d entries, none of which are %d in a row", bpf.ErrBound, capacity, count)
	}
	return first, nil
}

// unserved are the frontends that could not be written, and why.
type unserved map[bpf.Frontend]error

// err is one line, however many they are.
func (u unserved) err() error {
	for frontend, err := range u {
		if len(u) == 1 {
			return fmt.Errorf("%s: %w", nameOf(frontend), err)
		}
		return fmt.Errorf("%d frontends are not as they should be, %s among them: %w", len(u), nameOf(frontend), err)
	}
	return nil
}

// problems names the object that wants each of them.
func (u unserved) problems(owner func(bpf.Frontend) string) []Problem {
	var out []Problem
	for frontend, err := range u {
		out = append(out, Problem{owner(frontend), nameOf(frontend) + ": " + err.Error()})
	}
	return out
}

// nameOf is how messages name a frontend.
func nameOf(f bpf.Frontend) string {
	return fmt.Sprintf("frontend %s port %d/%s", f.Addr, f.Port, f.Protocol)
}
