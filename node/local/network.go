// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// Bridge is the device that all nodes are linked to.
	Bridge = "slipway-nodes"
	// linkPrefix and a number is the bridge's end of a node's link.
	linkPrefix = "slipnode"
	// uplinkName is the node's end.
	uplinkName = "eth0"
)

// MakeNetwork makes the bridge with the machine's own addresses on it, and
// lets nodes out through the machine, or leaves them as they are.
func MakeNetwork(c Config) error {
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return fmt.Errorf("make directory of local nodes: %w", err)
	}
	bridge, err := netlink.LinkByName(Bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge}})
		if err == nil {
			bridge, err = netlink.LinkByName(Bridge)
		}
	}
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", Bridge, err)
	}
	for _, addr := range c.Address(1) {
		if err := netlink.AddrReplace(bridge, address(addr)); err != nil {
			return fmt.Errorf("give bridge %s the address %s: %w", Bridge, addr, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring up bridge %s: %w", Bridge, err)
	}
	return letOut(c.CIDRs, c.PodCIDRs)
}

// address is usable at once: nobody else can have it, so no time is spent on
// duplicate address detection.
func address(prefix netip.Prefix) *netlink.Addr {
	out := &netlink.Addr{IPNet: &net.IPNet{
		IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}}
	if prefix.Addr().Is6() {
		out.Flags = unix.IFA_F_NODAD
	}
	return out
}

func linkName(n Node) string { return linkPrefix + strconv.Itoa(n.Number) }

// connect links a network namespace to the bridge as that of a node.
func (c Config) connect(n Node, ns netns.NsHandle) error {
	if err := disconnect(n); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", Bridge, err)
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: linkName(n), MasterIndex: bridge.Attrs().Index, Flags: net.FlagUp},
		PeerName:  uplinkName, PeerNamespace: netlink.NsFd(ns),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", linkName(n), err)
	}
	return nil
}

// disconnect removes a node's link, if there is one. It would go with the
// node's namespace, but the kernel takes its time to free that.
func disconnect(n Node) error {
	link, err := netlink.LinkByName(linkName(n))
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var missing netlink.LinkNotFoundError
	// It may go between the two calls.
	if err == nil || errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove link %s: %w", linkName(n), err)
}

// configure sets the addresses and routes of the node from inside.
func (c Config) configure(n Node) error {
	for _, name := range []string{"lo", uplinkName} {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	uplink, err := netlink.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("find %s: %w", uplinkName, err)
	}
	gateways := c.Address(1)
	for i, addr := range c.Address(n.Number) {
		if err := netlink.AddrReplace(uplink, address(addr)); err != nil {
			return fmt.Errorf("set address %s: %w", addr, err)
		}
		route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: gateways[i].Addr().AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("set default route: %w", err)
		}
	}
	return nil
}

// removeNetwork removes the bridge; the links went when the nodes were stopped.
func removeNetwork() error {
	if err := keepIn(); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(Bridge)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(bridge)
	}
	if err != nil {
		return fmt.Errorf("remove bridge %s: %w", Bridge, err)
	}
	return nil
}
