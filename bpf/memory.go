// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// array is a memory-mapped array map: its entries are written without a
// system call. The kernel rounds the size of an entry up to 8 bytes.
type array struct {
	memory  *ebpf.Memory
	stride  int64
	entries uint32
}

func mapArray(m *ebpf.Map) (*array, error) {
	memory, err := m.Memory()
	if err != nil {
		return nil, err
	}
	return &array{memory: memory, stride: int64(m.ValueSize()+7) &^ 7, entries: m.MaxEntries()}, nil
}

func (a *array) write(index uint32, value []byte) error {
	if index >= a.entries {
		return fmt.Errorf("index %d: the table has %d entries", index, a.entries)
	}
	_, err := a.memory.WriteAt(value, int64(index)*a.stride)
	return err
}

func (a *array) read(index uint32, value []byte) error {
	if index >= a.entries {
		return fmt.Errorf("index %d: the table has %d entries", index, a.entries)
	}
	_, err := a.memory.ReadAt(value, int64(index)*a.stride)
	return err
}

func (d *Datapath) array(t Table) *array { return d.grow[t].now.Load().array }

// SetSlots writes the slots of a range, beginning at first. The range must not
// be in use by a frontend.
func (d *Datapath) SetSlots(first uint32, ids []uint32) error {
	var value [4]byte
	slots := d.array(TableSlots)
	for i, id := range ids {
		binary.NativeEndian.PutUint32(value[:], id)
		if err := slots.write(first+uint32(i), value[:]); err != nil {
			return fmt.Errorf("write slot: %w", err)
		}
	}
	return nil
}

// Slots reads the slots of a range.
func (d *Datapath) Slots(first, count uint32) ([]uint32, error) {
	slots := d.array(TableSlots)
	ids := make([]uint32, 0, min(count, slots.entries))
	var value [4]byte
	for i := range count {
		if err := slots.read(first+i, value[:]); err != nil {
			return nil, fmt.Errorf("read slot: %w", err)
		}
		ids = append(ids, binary.NativeEndian.Uint32(value[:]))
	}
	return ids, nil
}

// SetBackend writes a backend. Its id must not be in use.
func (d *Datapath) SetBackend(id uint32, b Backend) error {
	value := uplinkBackend{Addr: toAddr(b.Addr), Port: toPort(b.Port), Flags: uint16(b.Flags)}
	if err := d.array(TableBackends).write(id, bytesOf(&value)); err != nil {
		return fmt.Errorf("write backend: %w", err)
	}
	return nil
}

// Backend reads a backend.
func (d *Datapath) Backend(id uint32) (Backend, error) {
	var value uplinkBackend
	if err := d.array(TableBackends).read(id, bytesOf(&value)); err != nil {
		return Backend{}, fmt.Errorf("read backend: %w", err)
	}
	return Backend{Addr: fromAddr(value.Addr), Port: toPort(value.Port), Flags: BackendFlags(value.Flags)}, nil
}

// bytesOf is the memory of a value that has the layout of the host and no
// padding; the static assertions in types.h keep it so.
func bytesOf[T any](value *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(value)), unsafe.Sizeof(*value))
}
