// SPDX-License-Identifier: Apache-2.0

// Package announced says what a load-balancer address looks like on an
// interface of the node that announces it. Whoever lists the node's own
// addresses leaves these out.
package announced

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forever is INFINITY_LIFE_TIME of linux/if_addr.h.
const forever = 0xffffffff

// Address is what is put on an interface: a single address that is valid for
// ever, without a route of its own, and never preferred as a source.
func Address(addr netip.Addr) *netlink.Addr {
	return &netlink.Addr{
		IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
		Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD, ValidLft: forever, PreferedLft: 0,
	}
}

// Is tells whether an address of an interface is an announced one. The kernel
// keeps no name for it, so that it is known by what it looks like.
func Is(a netlink.Addr) bool {
	ones, bits := a.Mask.Size()
	return ones == bits && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 && a.Flags&unix.IFA_F_DEPRECATED != 0
}
