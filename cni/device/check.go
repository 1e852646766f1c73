// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Check returns how the node's end of a pod differs from what Create and
// Connect have made, nil if it does not.
func (h *Host) Check(ifindex int, pod Pod) error {
	link, err := h.handle.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("pod interface %s: %w", pod.HostName, err)
	}
	if err := checkLink(link, pod.HostName, pod.HostMAC); err != nil {
		return err
	}
	for _, addr := range pod.Addrs {
		if err := checkRoute(h.handle, hostRoute(ifindex, addr)); err != nil {
			return err
		}
		if err := checkNeighbour(h.handle, permanent(ifindex, addr, pod.PodMAC)); err != nil {
			return err
		}
	}
	return nil
}

// Check returns how the pod's end differs from what Configure has made, nil
// if it does not.
func (n *Namespace) Check(pod Pod) error {
	handle, err := openHandle(n.ns)
	if err != nil {
		return fmt.Errorf("check %s in %s: %w", pod.PodName, n.path, err)
	}
	defer handle.Close()
	if err := checkInside(handle, pod); err != nil {
		return fmt.Errorf("check %s in %s: %w", pod.PodName, n.path, err)
	}
	return nil
}

func checkInside(handle *netlink.Handle, pod Pod) error {
	link, err := handle.LinkByName(pod.PodName)
	if err != nil {
		return err
	}
	if err := checkLink(link, pod.PodName, pod.PodMAC); err != nil {
		return err
	}
	addrs, err := list(func() ([]netlink.Addr, error) { return handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, addr := range pod.Addrs {
		if !slices.ContainsFunc(addrs, func(have netlink.Addr) bool { return sameNet(have.IPNet, hostNet(addr)) }) {
			return fmt.Errorf("address %s is missing", addr)
		}
	}
	ifindex := link.Attrs().Index
	for _, gateway := range pod.Gateways {
		for _, route := range podRoutes(ifindex, gateway) {
			if err := checkRoute(handle, route); err != nil {
				return err
			}
		}
		if err := checkNeighbour(handle, permanent(ifindex, gateway, pod.HostMAC)); err != nil {
			return err
		}
	}
	return nil
}

func checkLink(link netlink.Link, name string, mac net.HardwareAddr) error {
	attrs := link.Attrs()
	switch {
	case link.Type() != "veth":
		return fmt.Errorf("%s is a %s, not a veth", name, link.Type())
	case attrs.Name != name:
		return fmt.Errorf("%s is named %s", name, attrs.Name)
	case attrs.Flags&net.FlagUp == 0:
		return fmt.Errorf("%s is down", name)
	case !bytes.Equal(attrs.HardwareAddr, mac):
		return fmt.Errorf("%s has address %s, not %s", name, attrs.HardwareAddr, mac)
	}
	return nil
}

func checkRoute(handle *netlink.Handle, want netlink.Route) error {
	addr, _ := netip.AddrFromSlice(want.Dst.IP)
	routes, err := list(func() ([]netlink.Route, error) {
		return handle.RouteListFiltered(family(addr),
			&netlink.Route{LinkIndex: want.LinkIndex, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, have := range routes {
		dst := have.Dst
		if dst == nil {
			dst = defaultNet(addr)
		}
		if sameNet(dst, want.Dst) && have.Gw.Equal(want.Gw) {
			return nil
		}
	}
	return fmt.Errorf("route to %s is missing", want.Dst)
}

func checkNeighbour(handle *netlink.Handle, want netlink.Neigh) error {
	neighs, err := list(func() ([]netlink.Neigh, error) { return handle.NeighList(want.LinkIndex, want.Family) })
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, have := range neighs {
		if have.IP.Equal(want.IP) && have.State == want.State && bytes.Equal(have.HardwareAddr, want.HardwareAddr) {
			return nil
		}
	}
	return fmt.Errorf("neighbour %s is missing", want.IP)
}

func sameNet(a, b *net.IPNet) bool {
	return a.IP.Equal(b.IP) && bytes.Equal(a.Mask, b.Mask)
}
