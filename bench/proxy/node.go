// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses are the same on all sides.
var (
	nodeAddr    = netip.MustParseAddr("192.0.2.1")
	outsideAddr = netip.MustParseAddr("192.0.2.9")
	podCIDR     = netip.MustParsePrefix("10.128.0.0/12")
	podGateway  = netip.MustParseAddr("10.128.0.1")
	clientAddr  = netip.MustParseAddr("10.128.0.2")
	serverAddrs = []netip.Addr{netip.MustParseAddr("10.128.0.3"), netip.MustParseAddr("10.128.0.4")}
	// crowd are the endpoints of Services that no traffic is measured to: pods of
	// other nodes. The other host has all of these addresses.
	crowd = netip.MustParsePrefix("10.130.0.0/15")
)

// away are pods of another node, which the other host leads to. Nobody is there.
// They are several, as the node has only so many ports for connections to one.
var away = netip.MustParsePrefix("10.129.0.0/28")

// node is a machine with a client pod, two server pods and another host
// beside it, all of them network namespaces.
type node struct {
	self, outside, client namespace
	// servers are where servers listen: the server pods, then the other host.
	servers []namespace
	pods    []pod
}

// pod is what the data path is told about one.
type pod struct {
	wire
	Addr netip.Addr
}

// newNode builds the node. It is the same on all sides: pods have veth pairs
// that the node routes to.
func newNode() (*node, error) {
	n := &node{}
	for _, ns := range []*namespace{&n.self, &n.outside, &n.client} {
		var err error
		if *ns, err = newNamespace(); err != nil {
			return n, err
		}
	}
	if err := n.self.do(func() error { return setting("ipv4/ip_forward", "1") }); err != nil {
		return n, err
	}
	uplink, err := connect(n.self, n.outside, "eth0")
	if err != nil {
		return n, err
	}
	err = errors.Join(
		n.self.do(func() error { return n.addUplink(uplink) }),
		n.outside.do(func() error {
			return errors.Join(addressOf("eth0", netip.PrefixFrom(outsideAddr, 24)), mergeReceived("eth0"))
		}),
		n.addPod(n.client, "slwclient", clientAddr),
	)
	for i, addr := range serverAddrs {
		ns, nsErr := newNamespace()
		n.servers = append(n.servers, ns)
		err = errors.Join(err, nsErr, n.addPod(ns, fmt.Sprintf("slwserver%d", i), addr))
	}
	n.servers = append(n.servers, n.outside)
	return n, errors.Join(err, n.addCrowd())
}

func (n *node) addUplink(w wire) error {
	if err := address(w.Near, netip.PrefixFrom(nodeAddr, 24)); err != nil {
		return err
	}
	return errors.Join(
		neighbour(w.Near, outsideAddr, w.FarMAC),
		netlink.RouteAdd(&netlink.Route{LinkIndex: w.Near, Dst: ipNet(away), Gw: outsideAddr.AsSlice()}),
	)
}

// addPod gives a pod its interface: one address, a gateway that everything goes
// to, and permanent neighbours on both sides.
func (n *node) addPod(ns namespace, name string, addr netip.Addr) error {
	w, err := connect(n.self, ns, name)
	if err != nil {
		return err
	}
	n.pods = append(n.pods, pod{w, addr})
	err = n.self.do(func() error {
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{LinkIndex: w.Near, Scope: netlink.SCOPE_LINK, Dst: single(addr)}),
			neighbour(w.Near, addr, w.FarMAC),
		)
	})
	return errors.Join(err, ns.do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		if err := address(index, netip.PrefixFrom(addr, 32)); err != nil {
			return err
		}
		if err := neighbour(index, podGateway, w.NearMAC); err != nil {
			return err
		}
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: single(podGateway)}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: podGateway.AsSlice()}),
		)
	}))
}

// addCrowd gives the other host the addresses of the crowd, and the way back to
// the pods.
func (n *node) addCrowd() error {
	err := n.outside.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(
			netlink.RouteAdd(&netlink.Route{
				LinkIndex: lo.Attrs().Index, Dst: ipNet(crowd), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
			}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(podCIDR), Gw: nodeAddr.AsSlice()}),
		)
	})
	return errors.Join(err, n.self.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(crowd), Gw: outsideAddr.AsSlice()})
	}))
}

// close lets the namespaces go, and with them all that is in them.
func (n *node) close() {
	for _, ns := range append([]namespace{n.self, n.client}, n.servers...) {
		_ = ns.handle.Close()
	}
}

func single(addr netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(addr, 32)) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func neighbour(index int, addr netip.Addr, mac net.HardwareAddr) error {
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac})
}

func addressOf(name string, addr netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return address(link.Attrs().Index, addr)
}

func address(index int, addr netip.Prefix) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)})
}
