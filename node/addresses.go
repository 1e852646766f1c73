// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
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
// will be when there is a bridge.
func (c Config) checkAddresses() Check {
	check := Check{Name: "addresses", Do: "choose an address that `ip address` shows with --node-ip"}
	addrs := slices.DeleteFunc(slices.Clone(c.NodeIPs), func(a netip.Addr) bool {
		return c.hasLocalNodes() && slices.ContainsFunc(c.local().Address(1), func(p netip.Prefix) bool { return p.Addr() == a })
	})
	own, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		check.Says = fmt.Sprintf("cannot be listed: %v", err)
		return check
	}
	for _, want := range addrs {
		if !slices.ContainsFunc(own, func(a netlink.Addr) bool { return a.IP.Equal(want.AsSlice()) }) {
			check.Says = fmt.Sprintf("--node-ip %s: not an address of this machine", want)
			return check
		}
	}
	return Check{Name: "addresses", OK: true, Says: fmt.Sprint(c.NodeIPs)}
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
	for _, a := range addrs {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); ok && addr.IsGlobalUnicast() {
			return addr
		}
	}
	return netip.Addr{}
}
