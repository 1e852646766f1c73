// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// ForgetStale forgets the datagram flows of other hosts that came to a backend by
// a Service, where stale says that the Service no longer means this backend. The
// next datagram of a client goes to another one. Answers that are under way still
// come from the Service, until something else needs their entries. It returns how
// many flows were forgotten, also beside an error.
func (d *Datapath) ForgetStale(stale func(Use) bool) (int, error) {
	known := map[Use]bool{}
	forgotten := 0
	for e, err := range entries[uplinkTuple, uplinkCt](d.maps.Conntrack) {
		if err != nil {
			return forgotten, fmt.Errorf("list conntrack: %w", err)
		}
		if Protocol(e.key.Proto) != ProtocolUDP || e.value.Reply != 0 {
			continue
		}
		use := flowOf(e.key, e.value)
		is, asked := known[use]
		if !asked {
			is = stale(use)
			known[use] = is
		}
		if !is {
			continue
		}
		if err := d.forget(e.key, repliesTo(e.key, e.value)); err != nil {
			return forgotten, fmt.Errorf("forget flow: %w", err)
		}
		forgotten++
	}
	return forgotten, nil
}

// forget takes out the entry of requests; that of replies others may have.
func (d *Datapath) forget(requests, replies uplinkTuple) error {
	if err := d.maps.Conntrack.Delete(requests); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	var reply uplinkCt
	err := d.maps.Conntrack.Lookup(replies, &reply)
	if err == nil {
		reply.Closed = 1
		err = d.maps.Conntrack.Update(replies, reply, ebpf.UpdateExist)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// flowOf is what the requests of a flow are by.
func flowOf(key uplinkTuple, value uplinkCt) Use {
	c := conntrackOf(key, value, 0)
	return Use{Service: c.Dst, Backend: c.To, Protocol: c.Protocol}
}

// repliesTo is the tuple of the replies to requests.
func repliesTo(key uplinkTuple, value uplinkCt) uplinkTuple {
	back := uplinkTuple{Src: value.Addr, Sport: value.Port, Dst: key.Src, Dport: key.Sport, Proto: key.Proto}
	if Rewrite(value.Action) == RewriteBoth {
		back.Dst, back.Dport = value.From, value.FromPort
	}
	return back
}
