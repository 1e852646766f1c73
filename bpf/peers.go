// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// slotsAtOnce are read together.
const slotsAtOnce = 1024

// filling is one time that a slot was filled for a socket.
type filling struct{ slot, turn uint32 }

// findPeers looks through the slots of sockets that have a peer. The data path
// fills and frees them meanwhile.
func (d *Datapath) findPeers(f *findings) error {
	slots, err := mapArray(d.maps.Peers)
	if err != nil {
		return fmt.Errorf("map slots of sockets: %w", err)
	}
	page := new([slotsAtOnce]uplinkPeer)
	for first := uint32(0); first < slots.entries; first += slotsAtOnce {
		if _, err := slots.memory.ReadAt(bytesOf(page), int64(first)*slots.stride); err != nil {
			return fmt.Errorf("read slots of sockets: %w", err)
		}
		for i := range page {
			if !f.isPeer(&page[i]) {
				continue
			}
			if err := f.addPeer(slots, first+uint32(i)); err != nil {
				return fmt.Errorf("read slot of socket: %w", err)
			}
		}
	}
	return nil
}

// isPeer tells whether a slot is that of a socket whose use is stale. One that is
// being filled for the first time was as often filled as searched for: never.
func (f *findings) isPeer(p *uplinkPeer) bool {
	return p.Cookie != 0 && p.Turn != p.Searched && f.judge(useOfPeer(p), p.Netns)
}

// addPeer looks at a slot once more. Its turn comes first: what is read after it is
// of this turn or a later one, and is never marked as searched for without being
// looked at.
func (f *findings) addPeer(slots *array, slot uint32) error {
	var turn [4]byte
	offset := int64(slot)*slots.stride + int64(unsafe.Offsetof(uplinkPeer{}.Turn))
	if _, err := slots.memory.ReadAt(turn[:], offset); err != nil {
		return err
	}
	var p uplinkPeer
	if err := slots.read(slot, bytesOf(&p)); err != nil {
		return err
	}
	if f.isPeer(&p) {
		f.peers = append(f.peers, filling{slot, binary.NativeEndian.Uint32(turn[:])})
		f.note(p.Cookie, useOfPeer(&p))
	}
	return nil
}

// searched marks slots whose sockets need not be searched for again. It writes
// nothing that the data path writes.
func (d *Datapath) searched(list []filling) error {
	slots, err := mapArray(d.maps.Peers)
	if err != nil {
		return fmt.Errorf("map slots of sockets: %w", err)
	}
	for _, one := range list {
		var turn [4]byte
		binary.NativeEndian.PutUint32(turn[:], one.turn)
		offset := int64(one.slot)*slots.stride + int64(unsafe.Offsetof(uplinkPeer{}.Searched))
		if _, err := slots.memory.WriteAt(turn[:], offset); err != nil {
			return fmt.Errorf("mark slot of closed socket: %w", err)
		}
	}
	return nil
}

func useOfPeer(p *uplinkPeer) Use {
	return useOf(uplinkReverseKey{Addr: p.Backend, Port: p.BackendPort}, uplinkReverse{Addr: p.Service, Port: p.ServicePort, Proto: p.Proto})
}
