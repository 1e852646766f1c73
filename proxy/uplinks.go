// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/internal/announced"
)

// uplinker is the part of *bpf.Datapath that uplinks uses.
type uplinker interface {
	AttachUplink(ifindex int, addrs []netip.Addr) error
	DetachUplink(ifindex int) error
	Uplinks() ([]int, error)
	SetNode(addrs []netip.Addr) error
}

// uplinks finds the node's uplinks and keeps the uplink programs on them. An
// uplink is an interface that is up and has a global address, besides loopback
// and those of the pod network.
type uplinks struct {
	datapath uplinker
	log      *slog.Logger
	// attached are the interfaces that have programs, with their addresses.
	attached map[int][]netip.Addr
	// named are the addresses that sockets of the node are known by.
	named []netip.Addr
}

// watch returns a channel that gets a note whenever an address or interface
// changes; it is closed when ctx ends.
func (u *uplinks) watch(ctx context.Context) (<-chan struct{}, error) {
	addrs, links := make(chan netlink.AddrUpdate, 64), make(chan netlink.LinkUpdate, 64)
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	notes := make(chan struct{}, 1)
	go func() {
		defer close(notes)
		for {
			ok := false
			select {
			case _, ok = <-addrs:
			case _, ok = <-links:
			}
			if !ok {
				return
			}
			select {
			case notes <- struct{}{}:
			default:
			}
		}
	}()
	return notes, nil
}

// reconcile attaches and detaches programs, and returns the node's addresses,
// also beside an error: one interface that refuses a program does not hold up
// the rest.
func (u *uplinks) reconcile() ([]netip.Addr, error) {
	found, err := nodeLinks()
	if err != nil {
		return nil, err
	}
	attached := make(map[int][]netip.Addr, len(found))
	var addrs []netip.Addr
	var errs []error
	for index, own := range found {
		addrs = append(addrs, own...)
		if before, ok := u.attached[index]; !ok || !slices.Equal(before, own) {
			if err := u.datapath.AttachUplink(index, own); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		attached[index] = own
	}
	u.attached = attached
	known, err := u.datapath.Uplinks()
	errs = append(errs, err)
	for _, index := range known {
		if _, ok := found[index]; !ok {
			errs = append(errs, u.datapath.DetachUplink(index))
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), errors.Join(errs...)
}

// name has sockets of the node known by these addresses.
func (u *uplinks) name(addrs []netip.Addr) error {
	if slices.Equal(u.named, addrs) {
		return nil
	}
	if err := u.datapath.SetNode(addrs); err != nil {
		return err
	}
	u.named = addrs
	return nil
}

// nodeLinks returns the uplinks with their addresses, in the kernel's order.
func nodeLinks() (map[int][]netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	found := map[int][]netip.Addr{}
	for _, link := range links {
		if !mayBeUplink(link.Attrs()) {
			continue
		}
		own, err := globalAddrs(link)
		if err != nil {
			return nil, err
		}
		if len(own) > 0 {
			found[link.Attrs().Index] = own
		}
	}
	return found, nil
}

// mayBeUplink leaves out loopback and the devices of the pod network.
func mayBeUplink(attrs *netlink.LinkAttrs) bool {
	return attrs.Flags&net.FlagUp != 0 && attrs.Flags&net.FlagLoopback == 0 &&
		!strings.HasPrefix(attrs.Name, "slw") && attrs.Name != "slipway0"
}

func globalAddrs(link netlink.Link) ([]netip.Addr, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	var out []netip.Addr
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); ok && addr.IsGlobalUnicast() && !announced.Is(a) {
			out = append(out, addr)
		}
	}
	return out, nil
}
