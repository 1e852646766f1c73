// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The machine in a sandbox, in the ranges for documentation. Nobody answers at
// its gateway.
const (
	Hostname = "bench"
	Address4 = "192.0.2.2"
	Address6 = "2001:db8::2"

	gateway4 = "192.0.2.1"
	gateway6 = "2001:db8::1"
)

// setUpNetwork gives the machine its loopback and eth0, one end of a veth pair
// whose other end stays beside it.
func setUpNetwork() error {
	eth0 := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}
	if err := netlink.LinkAdd(eth0); err != nil {
		return fmt.Errorf("add eth0: %w", err)
	}
	for _, name := range []string{"lo", "wire", "eth0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	for _, n := range []struct {
		address, gateway string
		bits, family     int
	}{
		{Address4, gateway4, 24, 32},
		{Address6, gateway6, 64, 128},
	} {
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: net.ParseIP(n.address), Mask: net.CIDRMask(n.bits, n.family)},
			Flags: unix.IFA_F_NODAD,
		}
		if err := netlink.AddrAdd(eth0, addr); err != nil {
			return fmt.Errorf("add address %s: %w", n.address, err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Index, Gw: net.ParseIP(n.gateway)}); err != nil {
			return fmt.Errorf("add route through %s: %w", n.gateway, err)
		}
	}
	return nil
}
