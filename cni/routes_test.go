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
	for _, addr := range pods {
		roottest.AddAddrs(l.t, l.outside, "lo", netip.PrefixFrom(addr, addr.BitLen()))
	}
	roottest.In(l.t, l.outside, func() error {
		var failed []error
		for i, cidr := range l.cfg.PodCIDRs {
			failed = append(failed, netlink.RouteAdd(&netlink.Route{Dst: ipNet(cidr), Gw: nodeAddrs[i].AsSlice()}))
		}
		return errors.Join(failed...)
	})
}

func hostNet(addr netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(addr, addr.BitLen())) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
