// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: a pod interface
// speaks no neighbour discovery, so it needs no link-local address.
const addrGenNone = 1

// Pod says what one end in the node and one in the pod look like.
type Pod struct {
	// HostName is the name in the node, PodName that in the pod.
	HostName, PodName string
	HostMAC, PodMAC   net.HardwareAddr
	// Addrs are the pod's addresses, Gateways the node's, pairwise.
	Addrs, Gateways []netip.Addr
	// MTU is in bytes.
	MTU int
}

// Create makes the veth pair, the pod's end directly in its namespace, and
// returns the index of the end in the node. Nothing passes yet.
func (h *Host) Create(ns *Namespace, pod Pod) (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = pod.HostName
	attrs.MTU = pod.MTU
	attrs.HardwareAddr = pod.HostMAC
	attrs.Flags = net.FlagUp
	veth := netlink.NewVeth(attrs)
	veth.PeerName = pod.PodName
	veth.PeerHardwareAddr = pod.PodMAC
	veth.PeerNamespace = netlink.NsFd(ns.fd())
	if err := h.handle.LinkAdd(veth); err != nil {
		return 0, fmt.Errorf("create veth %s with peer %s: %w", pod.HostName, pod.PodName, err)
	}
	// An address appears only with the carrier, that is with the other end.
	if err := noLinkLocal(h.handle, veth); err != nil {
		return 0, fmt.Errorf("set up %s: %w", pod.HostName, err)
	}
	return veth.Index, nil
}

// noLinkLocal keeps the kernel from giving the device a link-local address.
func noLinkLocal(handle *netlink.Handle, link netlink.Link) error {
	err := handle.LinkSetIP6AddrGenMode(link, addrGenNone)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil // IPv6 is off, so there is no address either.
	}
	return err
}

// Connect makes the pod's addresses reachable from the node: a route and a
// permanent neighbour each. It changes nothing that is right already.
func (h *Host) Connect(ifindex int, pod Pod) error {
	for i, addr := range pod.Addrs {
		neigh := permanent(ifindex, addr, pod.PodMAC)
		if err := h.handle.NeighSet(&neigh); err != nil {
			return fmt.Errorf("set neighbour %s on %s: %w", addr, pod.HostName, err)
		}
		route := hostRoute(ifindex, addr)
		// Of several addresses the node speaks to pods from this one.
		route.Src = h.source(pod.Gateways[i]).AsSlice()
		err := h.handle.RouteReplace(&route)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) {
			// The pod is from a CIDR that the node had before, or the node's
			// address has changed.
			route.Src = nil
			err = h.handle.RouteReplace(&route)
		}
		if err != nil {
			return fmt.Errorf("set route to %s on %s: %w", addr, pod.HostName, err)
		}
	}
	return nil
}

func (h *Host) source(gateway netip.Addr) netip.Addr {
	for _, addr := range h.Sources {
		if addr.Is4() == gateway.Is4() {
			return addr
		}
	}
	return gateway
}

func permanent(ifindex int, addr netip.Addr, mac net.HardwareAddr) netlink.Neigh {
	return netlink.Neigh{
		LinkIndex: ifindex, Family: family(addr), State: netlink.NUD_PERMANENT,
		IP: addr.AsSlice(), HardwareAddr: mac,
	}
}

func hostRoute(ifindex int, addr netip.Addr) netlink.Route {
	return netlink.Route{
		LinkIndex: ifindex, Dst: hostNet(addr), Scope: netlink.SCOPE_LINK,
		Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

// WaitRunning waits until the node's end sends packets. The kernel makes it
// ready some time after the other end came up, and drops what is sent before;
// since Linux 6.8 to ask is enough to make it ready.
func (h *Host) WaitRunning(ctx context.Context, ifindex int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		link, err := h.handle.LinkByIndex(ifindex)
		if err != nil {
			return fmt.Errorf("wait for interface %d: %w", ifindex, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, which is %s: %w", link.Attrs().Name, link.Attrs().OperState, ctx.Err())
		case <-tick.C:
		}
	}
}

// Delete removes a pod interface, and so both ends, their routes and
// neighbours. It is done when there is none.
func (h *Host) Delete(hostName string) error {
	link, err := h.handle.LinkByName(hostName)
	if err == nil {
		err = h.handle.LinkDel(link)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete %s: %w", hostName, err)
	}
	return nil
}

// Pods returns the pod interfaces of the node: the index of each by name.
func (h *Host) Pods() (map[string]int, error) {
	links, err := list(h.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	pods := map[string]int{}
	for _, link := range links {
		if _, ok := link.(*netlink.Veth); ok && isPodName(link.Attrs().Name) {
			pods[link.Attrs().Name] = link.Attrs().Index
		}
	}
	return pods, nil
}

// isPodName tells whether a name is Prefix and eight hexadecimal digits.
func isPodName(name string) bool {
	if len(name) != len(Prefix)+8 || name[:len(Prefix)] != Prefix {
		return false
	}
	for _, c := range name[len(Prefix):] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
