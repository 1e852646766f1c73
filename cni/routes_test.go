// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/internal/roottest"
)

// routeOtherNode makes the outside another node of the cluster: it has pods
// with the given addresses, and knows the way to ours.
func (l *lab) routeOtherNode(pods []netip.Addr) {
	l.t.Helper()
	roottest.In(l.t, l.outside, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		var failed []error
		for _, addr := range pods {
			failed = append(failed, netlink.AddrAdd(lo, &netlink.Addr{IPNet: hostNet(addr), Flags: 2}))
		}
		for i, cidr := range l.cfg.PodCIDRs {
			failed = append(failed, netlink.RouteAdd(&netlink.Route{Dst: ipNet(cidr), Gw: nodeAddrs[i].AsSlice()}))
		}
		return errors.Join(failed...)
	})
	roottest.WaitLocal(l.t, l.outside, pods...)
}

func hostNet(addr netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(addr, addr.BitLen())) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
