// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/announced"
)

// server is the URL of the API server for clients on this node.
func (c Config) server() string {
	return "https://127.0.0.1:" + strconv.Itoa(int(c.APIPort))
}

// defaultAddresses finds the node's addresses: those of the interface that
// the default route leaves through, IPv4 first. Without a default route the
// first interface with a global address is taken.
func defaultAddresses() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addr, err := familyAddress(family)
		if err != nil {
			return nil, err
		}
		if addr.IsValid() {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("this machine has no address besides loopback; give it one, or name one with --node-ip")
	}
	return out, nil
}

// checkAddresses makes sure that the node's addresses are this machine's, or
// will be when there is a bridge, and that they can be used.
func (c Config) checkAddresses() Check {
	if err := c.awaitAddresses(); err != nil {
		return Check{Name: "addresses", Says: err.Error(), Do: "choose an address that `ip address` shows with --node-ip"}
	}
	return Check{Name: "addresses", OK: true, Says: fmt.Sprint(c.NodeIPs)}
}

// awaitAddresses waits for those that are new.
func (c Config) awaitAddresses() error {
	wanted := slices.DeleteFunc(slices.Clone(c.NodeIPs), func(a netip.Addr) bool {
		return c.hasLocalNodes() && slices.ContainsFunc(c.local().Address(1), func(p netip.Prefix) bool { return p.Addr() == a })
	})
	for deadline := time.Now().Add(detectionTimeout); ; time.Sleep(50 * time.Millisecond) {
		own, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		tentative, err := usable(wanted, own)
		if !tentative || time.Now().After(deadline) {
			return err
		}
	}
}

// detectionTimeout is how long the kernel may look whether somebody else has a new
// IPv6 address: about two seconds. No socket can be bound to it meanwhile.
const detectionTimeout = 10 * time.Second

// usable tells by its error which of the addresses cannot be used, and whether that
// may be only because they are new.
func usable(wanted []netip.Addr, own []netlink.Addr) (tentative bool, err error) {
	var errs []error
	for _, want := range wanted {
		at := slices.IndexFunc(own, func(a netlink.Addr) bool { return a.IP.Equal(want.AsSlice()) })
		switch {
		case at < 0:
			errs = append(errs, fmt.Errorf("--node-ip %s: not an address of this machine", want))
		case own[at].Flags&unix.IFA_F_DADFAILED != 0:
			errs = append(errs, fmt.Errorf("--node-ip %s: another host of the network has this address", want))
		case own[at].Flags&unix.IFA_F_TENTATIVE != 0:
			tentative = true
			errs = append(errs, fmt.Errorf("--node-ip %s: cannot be used yet, the kernel still looks whether another host has it", want))
		}
	}
	return tentative, errors.Join(errs...)
}

func familyAddress(family int) (netip.Addr, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list default routes: %w", err)
	}
	for _, route := range routes {
		if addr := globalAddress(family, route.LinkIndex); addr.IsValid() {
			return addr, nil
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		// Only hardware: never the bridge of another container runtime.
		if link.Type() != "device" {
			continue
		}
		if addr := globalAddress(family, link.Attrs().Index); addr.IsValid() {
			return addr, nil
		}
	}
	return netip.Addr{}, nil
}

func globalAddress(family, index int) netip.Addr {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return netip.Addr{}
	}
	addrs, err := netlink.AddrList(link, family)
	if err != nil {
		return netip.Addr{}
	}
	return chooseAddress(addrs)
}

// chooseAddress takes the first global address that stays: none that is only
// announced for a Service, and only when there is no other one that another host
// has, that is no longer preferred, or that changes for privacy.
func chooseAddress(addrs []netlink.Addr) netip.Addr {
	const second = unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY
	var chosen netip.Addr
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		switch {
		case !ok || !addr.IsGlobalUnicast() || announced.Is(a):
		case addr.Is4() || a.Flags&second == 0:
			return addr
		case !chosen.IsValid():
			chosen = addr
		}
	}
	return chosen
}
