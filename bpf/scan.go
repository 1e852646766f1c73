// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// scanner closes sockets by iterators, one for each protocol.
type scanner struct {
	stale *ebpf.Map
	iters map[Protocol]*link.Iter
}

// newScanner loads and attaches the iterators.
func (d *Datapath) newScanner() (*scanner, error) {
	var objects staleObjects
	l := d.newLoader()
	l.has = d.has
	if err := l.load("stale", loadStale, &objects); err != nil {
		return nil, err
	}
	s := &scanner{stale: objects.Stale, iters: map[Protocol]*link.Iter{}}
	for protocol, program := range map[Protocol]*ebpf.Program{ProtocolTCP: objects.StaleTcp, ProtocolUDP: objects.StaleUdp} {
		it, err := link.AttachIter(link.IterOptions{Program: program})
		if err != nil {
			return nil, fmt.Errorf("attach iterator of %s sockets: %w", protocol, err)
		}
		d.onClose(it.Close)
		s.iters[protocol] = it
	}
	return s, nil
}

// close searches for the sockets that were found. To search a namespace for TCP sockets
// takes milliseconds, whatever is in it, so only those are searched that need be.
func (s *scanner) close(found *findings) (map[Protocol]int, error) {
	closed := map[Protocol]int{}
	var errs []error
	for _, use := range found.uses {
		errs = append(errs, s.stale.Put(use.key(), uint8(1)))
	}
	errs = append(errs, inEachNetNS(func(cookie uint64) error {
		for protocol, it := range s.iters {
			if !found.places[place{cookie, protocol}] {
				continue
			}
			n, err := search(it)
			closed[protocol] += n
			if err != nil {
				return fmt.Errorf("search %s sockets: %w", protocol, err)
			}
		}
		return nil
	}))
	for _, use := range found.uses {
		errs = append(errs, s.stale.Delete(use.key()))
	}
	return closed, errors.Join(errs...)
}

// search walks the sockets of the calling thread's network namespace. The
// program writes a byte for each that it closes.
func search(it *link.Iter) (int, error) {
	reader, err := it.Open()
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	n, err := io.Copy(io.Discard, reader)
	return int(n), err
}
