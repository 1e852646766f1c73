// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unreachableMetric is below every other route to the same prefix.
const unreachableMetric = 1 << 20

// Gateway is the device with the node's address in each pod CIDR.
type Gateway struct {
	// Name is that of the device.
	Name string
	// Addrs are the node's addresses, one of each CIDR.
	Addrs []netip.Addr
	// CIDRs are unreachable except for the pods that exist, so that packets
	// to a pod that is gone do not leave by the default route.
	CIDRs []netip.Prefix
}

// SetGateway makes the device, its addresses and routes, and removes those
// of other CIDRs. It changes nothing that is right already, and waits until
// the node takes packets to the addresses.
func (h *Host) SetGateway(ctx context.Context, g Gateway) error {
	link, err := h.gatewayLink(g.Name)
	if err != nil {
		return fmt.Errorf("set gateway device %s: %w", g.Name, err)
	}
	if err := h.setGatewayAddrs(link, g.Addrs); err != nil {
		return fmt.Errorf("set gateway device %s: %w", g.Name, err)
	}
	if err := h.setUnreachable(g.CIDRs); err != nil {
		return fmt.Errorf("set gateway device %s: %w", g.Name, err)
	}
	if err := waitLocal(ctx, h.handle, g.Addrs); err != nil {
		return fmt.Errorf("set gateway device %s: %w", g.Name, err)
	}
	return nil
}

func (h *Host) gatewayLink(name string) (netlink.Link, error) {
	link, err := h.handle.LinkByName(name)
	if isNotFound(err) {
		if err := h.createGateway(name); err != nil {
			return nil, fmt.Errorf("create: %w", err)
		}
		link, err = h.handle.LinkByName(name)
	}
	if err != nil {
		return nil, err
	}
	if !isGateway(link) {
		return nil, fmt.Errorf("a %s has this name already", link.Type())
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return link, nil
	}
	return link, h.handle.LinkSetUp(link)
}

// createGateway makes a dummy, or a bridge without ports where the kernel has
// no dummies: to hold addresses is all that it does.
func (h *Host) createGateway(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	var link netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	err := h.handle.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		link = &netlink.Bridge{LinkAttrs: attrs}
		err = h.handle.LinkAdd(link)
	}
	if err != nil {
		return err
	}
	return noLinkLocal(h.handle, link)
}

func isGateway(link netlink.Link) bool {
	return link.Type() == "dummy" || link.Type() == "bridge"
}

func (h *Host) setGatewayAddrs(link netlink.Link, addrs []netip.Addr) error {
	have, err := list(func() ([]netlink.Addr, error) { return h.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	missing := map[netip.Addr]bool{}
	for _, addr := range addrs {
		missing[addr] = true
	}
	for _, old := range have {
		addr, _ := netip.AddrFromSlice(old.IP)
		ones, bits := old.Mask.Size()
		if addr = addr.Unmap(); missing[addr] && ones == bits {
			delete(missing, addr)
			continue
		}
		if err := h.handle.AddrDel(link, &old); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s: %w", old.IPNet, err)
		}
	}
	for addr := range missing {
		if err := h.handle.AddrReplace(link, &netlink.Addr{IPNet: hostNet(addr), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
	}
	return nil
}

// setUnreachable makes the CIDRs the only ones with an unreachable route of
// ours.
func (h *Host) setUnreachable(cidrs []netip.Prefix) error {
	have, err := h.unreachable()
	if err != nil {
		return err
	}
	missing := map[string]netip.Prefix{}
	for _, cidr := range cidrs {
		missing[ipNet(cidr).String()] = cidr
	}
	for _, old := range have {
		if _, ok := missing[old.Dst.String()]; ok {
			delete(missing, old.Dst.String())
			continue
		}
		if err := h.handle.RouteDel(&old); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete unreachable route %s: %w", old.Dst, err)
		}
	}
	for _, cidr := range missing {
		route := netlink.Route{
			Dst: ipNet(cidr), Type: unix.RTN_UNREACHABLE, Table: unix.RT_TABLE_MAIN,
			Protocol: routeProtocol, Priority: unreachableMetric, Family: family(cidr.Addr()),
		}
		err := h.handle.RouteReplace(&route)
		if err != nil {
			return fmt.Errorf("add unreachable route %s: %w", cidr, err)
		}
	}
	return nil
}

func (h *Host) unreachable() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := list(func() ([]netlink.Route, error) {
			return h.handle.RouteListFiltered(family,
				&netlink.Route{Protocol: routeProtocol, Type: unix.RTN_UNREACHABLE, Table: unix.RT_TABLE_MAIN},
				netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list unreachable routes: %w", err)
		}
		all = append(all, routes...)
	}
	return all, nil
}

// Clean removes every pod interface, the gateway device and our routes.
func (h *Host) Clean(gateway string) error {
	pods, err := h.Pods()
	if err != nil {
		return err
	}
	var failed []error
	for name := range pods {
		failed = append(failed, h.Delete(name))
	}
	link, err := h.handle.LinkByName(gateway)
	if err == nil && isGateway(link) {
		err = h.handle.LinkDel(link)
	}
	if err != nil && !isNotFound(err) {
		failed = append(failed, fmt.Errorf("delete %s: %w", gateway, err))
	}
	return errors.Join(append(failed, h.setUnreachable(nil))...)
}
