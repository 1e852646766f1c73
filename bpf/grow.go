// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// Table is the name of a table that grows.
type Table string

// The tables that grow. A frontend uses slots, which lead to backends.
const (
	TableFrontends Table = "frontends"
	TableSlots     Table = "slots"
	TableBackends  Table = "backends"
)

// ErrBound says that a table that is full may not grow any more.
var ErrBound = errors.New("the table has all the room that it may have")

// growing is a table that grows. The map outer, which is pinned, has one
// element: the map with the entries. Nothing else refers to that, so that
// whatever a process leaves half done goes with it.
type growing struct {
	outer *ebpf.Map
	// spec is the blueprint of the element.
	spec  *ebpf.MapSpec
	bound uint32
	now   atomic.Pointer[element]
}

func (g *growing) close() error {
	var errs []error
	if g.outer != nil {
		errs = append(errs, g.outer.Close())
	}
	if e := g.now.Load(); e != nil {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}

// element is the map with the entries; array is its memory if it is an array.
// One that was replaced is closed with the last reference to it, for another
// goroutine may read it.
type element struct {
	*ebpf.Map
	array *array
}

func newElement(m *ebpf.Map) (*element, error) {
	e := &element{Map: m}
	if m.Type() != ebpf.Array {
		return e, nil
	}
	var err error
	if e.array, err = mapArray(m); err != nil {
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	return e, nil
}

// adopt opens the element that the outer map has.
func (g *growing) adopt() error {
	var m *ebpf.Map
	if err := g.outer.Lookup(uint32(0), &m); err != nil {
		return err
	}
	if m.Type() != g.spec.Type || m.KeySize() != g.spec.KeySize || m.ValueSize() != g.spec.ValueSize || m.Flags() != g.spec.Flags {
		m.Close()
		return fmt.Errorf("%w: entries of %s have another layout", ErrOtherLayout, g.spec.Name)
	}
	e, err := newElement(m)
	if err != nil {
		m.Close()
		return err
	}
	g.bound = max(g.bound, m.MaxEntries())
	g.now.Store(e)
	return nil
}

// replace makes an element of a size, with all entries of the one before, and
// puts it in that one's place. Programs find either. When it returns, none uses
// the one before any more: the kernel waits for them.
func (g *growing) replace(size uint32) error {
	spec := g.spec.Copy()
	spec.MaxEntries = size
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("make a map of %d entries: %w", size, err)
	}
	e, err := newElement(m)
	if err == nil {
		err = copyEntries(e, g.now.Load())
	}
	if err == nil {
		err = g.outer.Put(uint32(0), m)
	}
	if err != nil {
		m.Close()
		return err
	}
	g.now.Store(e)
	return nil
}

// copyEntries fills a new element; from is nil for the first.
func copyEntries(to, from *element) error {
	switch {
	case from == nil:
		return nil
	case from.array != nil:
		all := io.NewSectionReader(from.array.memory, 0, int64(from.array.entries)*from.array.stride)
		_, err := io.Copy(io.NewOffsetWriter(to.array.memory, 0), all)
		return err
	}
	keys, values := make([]uplinkFrontendKey, entriesAtOnce), make([]uplinkFrontend, entriesAtOnce)
	var cursor ebpf.MapBatchCursor
	for {
		n, end := from.BatchLookup(&cursor, keys, values, nil)
		if end != nil && !errors.Is(end, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("copy entries: %w", end)
		}
		if n > 0 {
			if _, err := to.BatchUpdate(keys[:n], values[:n], nil); err != nil {
				return fmt.Errorf("copy entries: %w", err)
			}
		}
		if end != nil {
			return nil
		}
	}
}

// Capacity is how many entries a table has room for now.
func (d *Datapath) Capacity(t Table) uint32 { return d.grow[t].now.Load().MaxEntries() }

// Grow makes a table so large that it has room for least entries, and returns
// its capacity. What is in it stays as it is, and programs find it all the time.
// When that is beyond the bound of the table it becomes as large as it may; when
// it is that already, the error is ErrBound. Only one goroutine may write or grow
// a table.
func (d *Datapath) Grow(t Table, least uint32) (uint32, error) {
	g := d.grow[t]
	size := g.now.Load().MaxEntries()
	if least <= size {
		return size, nil
	}
	if size >= g.bound {
		return size, fmt.Errorf("%w: %d entries of %s", ErrBound, size, t)
	}
	for size < least && size < g.bound {
		size *= 2
	}
	if err := g.replace(min(size, g.bound)); err != nil {
		return d.Capacity(t), fmt.Errorf("grow table %s: %w", t, err)
	}
	return d.Capacity(t), nil
}
