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
	"golang.org/x/sys/unix"
)

const (
	// bridgeName is the device that all nodes are linked to.
	bridgeName = "slipway-nodes"
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
	bridge, err := netlink.LinkByName(bridgeName)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}})
		if err == nil {
			bridge, err = netlink.LinkByName(bridgeName)
		}
	}
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", bridgeName, err)
	}
	for _, addr := range c.Address(1) {
		if err := netlink.AddrReplace(bridge, address(addr)); err != nil {
			return fmt.Errorf("give bridge %s the address %s: %w", bridgeName, addr, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring up bridge %s: %w", bridgeName, err)
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

// connect links the network namespace of a process to the bridge.
func (c Config) connect(n Node, pid int) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", bridgeName, err)
	}
	name := linkPrefix + strconv.Itoa(n.Number)
	// One that an earlier process of the node has left goes with its
	// namespace, but not at once.
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("remove old link %s: %w", name, err)
		}
	}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index, Flags: net.FlagUp},
		PeerName:  uplinkName, PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", name, err)
	}
	return nil
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

// removeNetwork removes the bridge; the links have gone with their nodes.
func removeNetwork() error {
	if err := keepIn(); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(bridgeName)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(bridge)
	}
	if err != nil {
		return fmt.Errorf("remove bridge %s: %w", bridgeName, err)
	}
	return nil
}
