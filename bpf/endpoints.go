// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// Endpoint is a pod of this node.
type Endpoint struct {
	// Addrs are its addresses, at most one of each family.
	Addrs []netip.Addr
	// Ifindex is that of its pod interface, the host end of the veth pair.
	Ifindex int
	// PodMAC and HostMAC are those of the two ends.
	PodMAC, HostMAC net.HardwareAddr
	// NetNS is the cookie of its network namespace; 0 when it is not known. By
	// it, sockets in there are known by the pod's addresses.
	NetNS uint64
}

// PutEndpoint makes a pod reachable at its addresses, and lets it use them.
func (d *Datapath) PutEndpoint(e Endpoint) error {
	index := uint32(e.Ifindex)
	own := ownAddrs(e.Addrs)
	if e.NetNS == 0 {
		e.NetNS = d.netnsOf(e)
	}
	value := uplinkEndpoint{Ifindex: index, Netns: e.NetNS}
	value.Pod.B, value.Host.B = toMAC(e.PodMAC), toMAC(e.HostMAC)
	if err := d.maps.Pods.Put(index, own); err != nil {
		return fmt.Errorf("put endpoint of interface %d: %w", e.Ifindex, err)
	}
	for _, addr := range e.Addrs {
		if err := d.maps.Endpoints.Put(toAddr(addr), value); err != nil {
			return fmt.Errorf("put endpoint %s: %w", addr, err)
		}
	}
	if e.NetNS == 0 {
		return nil
	}
	// Last, for it is deleted by what the endpoints say.
	return d.putClient(e.NetNS, own)
}

// netnsOf returns the network namespace that a pod is known to have.
func (d *Datapath) netnsOf(e Endpoint) uint64 {
	var value uplinkEndpoint
	for _, addr := range e.Addrs {
		if d.maps.Endpoints.Lookup(toAddr(addr), &value) == nil && value.Ifindex == uint32(e.Ifindex) {
			return value.Netns
		}
	}
	return 0
}

// DeleteEndpoint removes the pod behind an interface; one that is not there is
// no error. An address that belongs to another pod by now stays.
func (d *Datapath) DeleteEndpoint(ifindex int) error {
	index := uint32(ifindex)
	known, err := d.byIndex()
	if err != nil {
		return err
	}
	var errs []error
	for addr, value := range known[index] {
		errs = append(errs, d.maps.Clients.Delete(value.Netns), d.maps.Endpoints.Delete(addr))
	}
	errs = append(errs, d.maps.Pods.Delete(index))
	for _, err := range errs {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete endpoint of interface %d: %w", ifindex, err)
		}
	}
	return nil
}

// byIndex returns the entries of all pods by pod interface.
func (d *Datapath) byIndex() (map[uint32]map[uplinkAddr]uplinkEndpoint, error) {
	out := map[uint32]map[uplinkAddr]uplinkEndpoint{}
	var addr uplinkAddr
	var value uplinkEndpoint
	entries := d.maps.Endpoints.Iterate()
	for entries.Next(&addr, &value) {
		if out[value.Ifindex] == nil {
			out[value.Ifindex] = map[uplinkAddr]uplinkEndpoint{}
		}
		out[value.Ifindex][addr] = value
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return out, nil
}

// Endpoints returns all pods of this node, also such that have only half been
// put or deleted.
func (d *Datapath) Endpoints() ([]Endpoint, error) {
	found := map[uint32]*Endpoint{}
	at := func(index uint32) *Endpoint {
		if found[index] == nil {
			found[index] = &Endpoint{Ifindex: int(index)}
		}
		return found[index]
	}
	var addr uplinkAddr
	var value uplinkEndpoint
	entries := d.maps.Endpoints.Iterate()
	for entries.Next(&addr, &value) {
		e := at(value.Ifindex)
		e.Addrs = append(e.Addrs, fromAddr(addr))
		e.NetNS = value.Netns
		e.PodMAC, e.HostMAC = slices.Clone(value.Pod.B[:]), slices.Clone(value.Host.B[:])
	}
	var index uint32
	var own uplinkPodAddrs
	pods := d.maps.Pods.Iterate()
	for pods.Next(&index, &own) {
		at(index)
	}
	if err := errors.Join(entries.Err(), pods.Err()); err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	out := make([]Endpoint, 0, len(found))
	for _, e := range found {
		out = append(out, *e)
	}
	return out, nil
}
