// SPDX-License-Identifier: Apache-2.0

package roottest

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// readyTimeout is for the kernel's deferred work on a machine under load.
const readyTimeout = 10 * time.Second

// WaitRunning waits until a device sends packets. The kernel makes it ready
// some time after both ends of a veth are up, and drops what is sent before.
func WaitRunning(t testing.TB, ns netns.NsHandle, device string) {
	t.Helper()
	Eventually(t, readyTimeout, func() error { return running(ns, device) })
}

func running(ns netns.NsHandle, device string) error {
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	link, err := handle.LinkByName(device)
	if err != nil {
		return err
	}
	if state := link.Attrs().OperState; state != netlink.OperUp {
		return fmt.Errorf("%s is %s", device, state)
	}
	return nil
}

// AddAddrs gives a device addresses that can be used at once: the kernel does not
// look for duplicates, which takes seconds and in which no socket can be bound to
// an IPv6 address.
func AddAddrs(t testing.TB, ns netns.NsHandle, device string, prefixes ...netip.Prefix) {
	t.Helper()
	In(t, ns, func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
			if p.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("give %s the address %s: %w", device, p, err)
			}
		}
		return nil
	})
	for _, p := range prefixes {
		WaitLocal(t, ns, p.Addr())
	}
}

// WaitLocal waits until a namespace takes packets to its addresses. An IPv6
// address works some time after it was added, even when there is no duplicate
// address detection, and the kernel drops what arrives before.
func WaitLocal(t testing.TB, ns netns.NsHandle, addrs ...netip.Addr) {
	t.Helper()
	for _, addr := range addrs {
		Eventually(t, readyTimeout, func() error { return Local(ns, addr) })
	}
}

// Local returns an error unless a namespace takes packets to an address now.
func Local(ns netns.NsHandle, addr netip.Addr) error {
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	routes, err := handle.RouteGet(addr.AsSlice())
	if err != nil {
		return fmt.Errorf("%s is not local: %w", addr, err)
	}
	if len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL {
		return fmt.Errorf("%s is not local: %v", addr, routes)
	}
	return nil
}
