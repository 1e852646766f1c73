// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/announced"
	"slipway.dev/slipway/internal/roottest"
)

func TestChooseAddress(t *testing.T) {
	const stays = "2001:db8::1"
	with := func(flags int, text string) netlink.Addr {
		return netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(text), Mask: net.CIDRMask(64, 128)}, Flags: flags}
	}
	vip := *announced.Address(netip.MustParseAddr("2001:db8::100"))
	vip.Flags |= unix.IFA_F_DEPRECATED // By the kernel, for its lifetime of 0.
	// The kernel lists the newest first.
	for name, tt := range map[string]struct {
		addrs []netlink.Addr
		want  string
	}{
		"announced for a Service": {[]netlink.Addr{vip, with(0, stays)}, stays},
		"for privacy":             {[]netlink.Addr{with(unix.IFA_F_TEMPORARY, "2001:db8::a"), with(0, stays)}, stays},
		"another host has it":     {[]netlink.Addr{with(unix.IFA_F_DADFAILED, "2001:db8::b"), with(0, stays)}, stays},
		"no longer preferred":     {[]netlink.Addr{with(unix.IFA_F_DEPRECATED, "2001:db8::c"), with(0, stays)}, stays},
		"no other":                {[]netlink.Addr{with(0, "fe80::1"), with(unix.IFA_F_TEMPORARY, stays)}, stays},
		"new":                     {[]netlink.Addr{with(unix.IFA_F_TENTATIVE, stays)}, stays},
		"only announced":          {[]netlink.Addr{vip}, netip.Addr{}.String()},
	} {
		if got := chooseAddress(tt.addrs); got.String() != tt.want {
			t.Errorf("%s: %s, expected %s", name, got, tt.want)
		}
	}
}

// Sockets cannot be bound to an IPv6 address as long as the kernel looks whether
// another host has it.
func TestRootAddressIsUsable(t *testing.T) {
	const own, taken = "2001:db8::1", "2001:db8::2"
	node, other := roottest.NetNS(t), roottest.NetNS(t)
	roottest.In(t, node, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0", Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(other)),
		})
	})
	roottest.In(t, other, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
	roottest.WaitRunning(t, node, "eth0")
	roottest.AddAddrs(t, other, "eth0", netip.MustParsePrefix(taken+"/64"))
	check := func(text string) error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(text + "/64")
		if err == nil {
			err = netlink.AddrAdd(link, addr)
		}
		if err != nil {
			return err
		}
		return Config{NodeIPs: []netip.Addr{netip.MustParseAddr(text)}}.awaitAddresses()
	}
	roottest.In(t, node, func() error {
		if err := check(own); err != nil {
			return err
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
		if err != nil {
			return fmt.Errorf("an address that was checked cannot be used: %w", err)
		}
		return listener.Close()
	})
	roottest.In(t, node, func() error {
		if err := check(taken); err == nil || !strings.Contains(err.Error(), "another host") {
			t.Errorf("an address that another host has: %v", err)
		}
		return nil
	})
}
