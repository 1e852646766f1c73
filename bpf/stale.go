// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Use is how sockets came to a backend: by an address of a Service.
type Use struct {
	Service, Backend netip.AddrPort
	Protocol         Protocol
}

// CloseStale closes the sockets that came to a backend by a Service, where
// stale says that the Service no longer means this backend. It finds them in all
// network namespaces that a process is in. Their owners get ECONNABORTED at
// once, and may connect again. Sockets that connected straight to the backend
// are left alone, and so are those without a peer. Namespaces without such a use
// are not searched. It returns how many were closed, by protocol, also beside an
// error.
func (d *Datapath) CloseStale(stale func(Use) bool) (map[Protocol]int, error) {
	d.scanning.Lock()
	defer d.scanning.Unlock()
	found, err := d.findStale(stale)
	if err != nil || len(found.uses) == 0 {
		return nil, err
	}
	if err := d.openCloser(); err != nil {
		return nil, fmt.Errorf("close stale sockets: %w", err)
	}
	closed, err := d.closer.close(found)
	if err != nil {
		return closed, fmt.Errorf("close stale sockets: %w", err)
	}
	// Nobody is left who has these, so the next call need not search for them.
	for _, key := range found.sockets {
		if err := d.maps.Reverses.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return closed, fmt.Errorf("forget closed socket: %w", err)
		}
	}
	return closed, d.searched(found.peers)
}

// closer closes the sockets that were found, and tells how many it was of each
// protocol.
type closer interface {
	close(found *findings) (map[Protocol]int, error)
}

// openCloser prepares to close sockets when that is needed first: many nodes never
// do.
func (d *Datapath) openCloser() error {
	if d.closer != nil {
		return nil
	}
	if !d.has[FeatureSockDestroy] {
		d.closer = destroyer{}
		return nil
	}
	s, err := d.newScanner()
	if err == nil {
		d.closer = s
	}
	return err
}

// findings are the uses that are stale, the sockets that had them, and where
// those may be.
type findings struct {
	stale func(Use) bool
	// known has what stale has said.
	known   map[Use]bool
	uses    []Use
	sockets []uplinkReverseKey
	peers   []filling
	places  map[place]bool
	// owners are the same sockets by what tells them apart.
	owners map[owner]bool
}

// owner is a socket by its cookie, while it talks to a backend.
type owner struct {
	cookie   uint64
	backend  netip.AddrPort
	protocol Protocol
}

// note remembers a socket whose use is stale.
func (f *findings) note(cookie uint64, use Use) {
	f.owners[owner{cookie, use.Backend, use.Protocol}] = true
}

// judge tells whether a use is stale, and notes where its socket is if so.
func (f *findings) judge(use Use, netns uint64) bool {
	is, asked := f.known[use]
	if !asked {
		is = f.stale(use)
		f.known[use] = is
		if is {
			f.uses = append(f.uses, use)
		}
	}
	if is {
		f.places[place{netns, use.Protocol}] = true
	}
	return is
}

// place is a network namespace, by its cookie, and the protocol to search there.
type place struct {
	netns    uint64
	protocol Protocol
}

// entriesAtOnce are read by one system call: more than a bucket of the map ever
// holds.
const entriesAtOnce = 4096

func (d *Datapath) findStale(stale func(Use) bool) (*findings, error) {
	f := &findings{stale: stale, known: map[Use]bool{}, places: map[place]bool{}, owners: map[owner]bool{}}
	return f, errors.Join(d.findPeers(f), d.findReverses(f))
}

// findReverses looks through the sockets that are in no slot.
func (d *Datapath) findReverses(f *findings) error {
	keys, values := make([]uplinkReverseKey, entriesAtOnce), make([]uplinkReverse, entriesAtOnce)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := d.maps.Reverses.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("list uses of services: %w", err)
		}
		for i := range n {
			// To one without a peer an answer may be under way.
			use := useOf(keys[i], values[i])
			if values[i].Unconnected == 0 && f.judge(use, values[i].Netns) {
				f.sockets = append(f.sockets, keys[i])
				f.note(keys[i].Cookie, use)
			}
		}
		if err != nil {
			return nil
		}
	}
}

func useOf(key uplinkReverseKey, value uplinkReverse) Use {
	return Use{
		Service:  netip.AddrPortFrom(fromAddr(value.Addr), toPort(value.Port)),
		Backend:  netip.AddrPortFrom(fromAddr(key.Addr), toPort(key.Port)),
		Protocol: Protocol(value.Proto),
	}
}

func (u Use) key() staleUse {
	return staleUse{
		Service: staleAddr(toAddr(u.Service.Addr())), ServicePort: toPort(u.Service.Port()),
		Backend: staleAddr(toAddr(u.Backend.Addr())), BackendPort: toPort(u.Backend.Port()),
		Proto: uint8(u.Protocol),
	}
}
