// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"maps"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// UplinkIn is the program for packets that come in, to be run on packets that a
// test has made.
func (d *Datapath) UplinkIn() *ebpf.Program { return d.tc.uplink.UplinkIn }

// Wire is the XDP program before UplinkIn.
func (d *Datapath) Wire() *ebpf.Program { return d.wire.Wire }

// PodFrom is the program for packets of pods.
func (d *Datapath) PodFrom() *ebpf.Program { return d.tc.pod.PodFrom }

// PodTo is the program for packets to pods.
func (d *Datapath) PodTo() *ebpf.Program { return d.tc.pod.PodTo }

// Clients are those that Services with affinity know, by the number of a Service.
func (d *Datapath) Clients() map[uint64][]netip.Addr {
	out := map[uint64][]netip.Addr{}
	var key uplinkAffinityKey
	var value uplinkAffinity
	entries := d.maps.Affinities.Iterate()
	for entries.Next(&key, &value) {
		out[key.Service] = append(out[key.Service], fromAddr(key.Client))
	}
	return out
}

// Forget empties the tables that programs write.
func (d *Datapath) Forget() error {
	for _, m := range []*ebpf.Map{d.maps.Conntrack, d.maps.Affinities, d.maps.Fragments} {
		key := make([]byte, m.KeySize())
		for m.NextKey(nil, &key) == nil {
			if err := m.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Track enters a connection whose packets are sent on as they are.
func (d *Datapath) Track(src, dst netip.AddrPort, protocol Protocol) error {
	tuple := uplinkTuple{
		Src: toAddr(src.Addr()), Dst: toAddr(dst.Addr()), Sport: toPort(src.Port()), Dport: toPort(dst.Port()), Proto: uint8(protocol),
	}
	return d.maps.Conntrack.Put(tuple, uplinkCt{Addr: tuple.Dst, Port: tuple.Dport, From: tuple.Src, FromPort: tuple.Sport, Action: uint16(RewriteBoth)})
}

// Age makes connections of other hosts that were used just now as old as that.
func (d *Datapath) Age(by time.Duration) error {
	for e, err := range entries[uplinkTuple, uplinkCt](d.maps.Conntrack) {
		if err != nil {
			return err
		}
		e.value.Seen -= uint64(by)
		if err := d.maps.Conntrack.Put(e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// DetachUplinkIn leaves an uplink without the program after that of XDP.
func (d *Datapath) DetachUplinkIn(ifindex int) error { return d.detachTC("uplink_in", ifindex) }

// Attached are the names of all pins of programs.
func (d *Datapath) Attached() ([]string, error) { return d.pins() }

// LoseConntrack replaces the programs for traffic control by those for a kernel
// without connection tracking.
func (d *Datapath) LoseConntrack() error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	l := d.newLoader()
	l.has = maps.Clone(d.has)
	l.has[FeatureCTLookup] = false
	return d.replaceTC(l)
}
