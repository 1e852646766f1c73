// SPDX-License-Identifier: Apache-2.0

package roottest

import (
	"fmt"
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
