// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/announced"
)

// uplink is an interface that leads to other hosts.
type uplink struct {
	link netlink.Link
	// subnets are those of its own addresses, ours what was put on it.
	subnets []netip.Prefix
	ours    map[netip.Addr]netlink.Addr
}

func (u uplink) name() string { return u.link.Attrs().Name }

// uplinks lists the interfaces that may carry addresses, in the kernel's order.
func uplinks() ([]uplink, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []uplink
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 || strings.HasPrefix(attrs.Name, "slw") || attrs.Name == "slipway0" {
			continue
		}
		u, err := read(link)
		if err != nil {
			return nil, err
		}
		if len(u.subnets) > 0 || len(u.ours) > 0 {
			out = append(out, u)
		}
	}
	return out, nil
}

func read(link netlink.Link) (uplink, error) {
	u := uplink{link: link, ours: map[netip.Addr]netlink.Addr{}}
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return u, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		if !ok || !addr.IsGlobalUnicast() {
			continue
		}
		if announced.Is(a) {
			u.ours[addr] = a
			continue
		}
		ones, _ := a.Mask.Size()
		u.subnets = append(u.subnets, netip.PrefixFrom(addr, ones).Masked())
	}
	return u, nil
}

// choose returns the index of the uplink for an address: one that has its
// subnet, or the first that has its family.
func choose(links []uplink, addr netip.Addr) int {
	first := -1
	for i, u := range links {
		for _, subnet := range u.subnets {
			if subnet.Contains(addr) {
				return i
			}
			if subnet.Addr().Is4() == addr.Is4() && first < 0 {
				first = i
			}
		}
	}
	return first
}

func (u uplink) add(addr netip.Addr) error {
	err := netlink.AddrAdd(u.link, announced.Address(addr))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to %s: %w", addr, u.name(), err)
	}
	return nil
}

func (u uplink) remove(a netlink.Addr) error {
	if err := netlink.AddrDel(u.link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s from %s: %w", a.IP, u.name(), err)
	}
	return nil
}

// Clean removes from this network namespace all addresses that Announcers have
// put there.
func Clean() error {
	links, err := uplinks()
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range links {
		for _, a := range u.ours {
			errs = append(errs, u.remove(a))
		}
	}
	return errors.Join(errs...)
}
