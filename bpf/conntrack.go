// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Rewrite is what is done to packets of a conntrack entry. The numbers are
// those of enum ct_action in lib/types.h.
type Rewrite uint16

const (
	// RewriteDestination is for requests to a backend of this node.
	RewriteDestination Rewrite = 1
	// RewriteSource is for replies of such a backend.
	RewriteSource Rewrite = 2
	// RewriteBoth is for both ways of a connection with another node's backend.
	RewriteBoth Rewrite = 3
	// RewriteDirect is for requests to such a backend that answers itself.
	RewriteDirect Rewrite = 4
)

// String returns the ends that are rewritten.
func (r Rewrite) String() string {
	switch r {
	case RewriteDestination:
		return "destination"
	case RewriteSource:
		return "source"
	case RewriteBoth:
		return "both"
	case RewriteDirect:
		return "destination, answered directly"
	}
	return fmt.Sprintf("unknown (%d)", uint16(r))
}

// Conntrack is one way of a connection to a Service that is translated packet by
// packet.
type Conntrack struct {
	Protocol Protocol
	// Src and Dst are those of the packets as they come.
	Src, Dst netip.AddrPort
	Rewrite  Rewrite
	// To is the new destination, or with RewriteSource the new source. From is
	// the new source with RewriteBoth.
	To, From netip.AddrPort
	// Idle is for how long no packet came, in whole seconds or so.
	Idle time.Duration
}

// Conntrack goes through the entries. Those that come and go meanwhile may be
// there, be missing or, rarely, be there twice.
func (v *View) Conntrack() iter.Seq2[Conntrack, error] { return v.d.Conntrack() }

// Conntrack goes through the entries, as that of a View does.
func (d *Datapath) Conntrack() iter.Seq2[Conntrack, error] {
	return func(yield func(Conntrack, error) bool) {
		now, err := monotonic()
		if err != nil {
			yield(Conntrack{}, err)
			return
		}
		for e, err := range entries[uplinkTuple, uplinkCt](d.maps.Conntrack) {
			if err != nil {
				yield(Conntrack{}, fmt.Errorf("list conntrack: %w", err))
				return
			}
			if !yield(conntrackOf(e.key, e.value, now), nil) {
				return
			}
		}
	}
}

func conntrackOf(key uplinkTuple, value uplinkCt, now time.Duration) Conntrack {
	at := func(addr uplinkAddr, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(fromAddr(addr), toPort(port))
	}
	c := Conntrack{
		Protocol: Protocol(key.Proto), Src: at(key.Src, key.Sport), Dst: at(key.Dst, key.Dport),
		Rewrite: Rewrite(value.Action), To: at(value.Addr, value.Port),
		Idle: max(0, now-time.Duration(value.Seen)),
	}
	if c.Rewrite == RewriteBoth {
		c.From = at(value.From, value.FromPort)
	}
	return c
}

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// entry is a key with its value.
type entry[K, V any] struct {
	key   K
	value V
}

// batchSize is how many entries one system call reads.
const batchSize = 2048

// entries goes through a hash table with few system calls.
func entries[K, V any](m *ebpf.Map) iter.Seq2[entry[K, V], error] {
	return func(yield func(entry[K, V], error) bool) {
		var at ebpf.MapBatchCursor
		size := min(batchSize, m.MaxEntries())
		keys, values := make([]K, size), make([]V, size)
		for {
			n, err := m.BatchLookup(&at, keys, values, nil)
			last := errors.Is(err, ebpf.ErrKeyNotExist)
			if err != nil && !last {
				yield(entry[K, V]{}, err)
				return
			}
			for i := range n {
				if !yield(entry[K, V]{keys[i], values[i]}, nil) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}
