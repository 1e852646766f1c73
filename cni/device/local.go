// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// waitLocal waits until packets to addresses are taken. The kernel answers as
// soon as it knows an IPv6 address, makes its local route later, also without
// duplicate address detection, and drops what arrives before.
func waitLocal(ctx context.Context, handle *netlink.Handle, addrs []netip.Addr) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, addr := range addrs {
		for {
			local, err := isLocal(handle, addr)
			if err != nil {
				return err
			}
			if local {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for the local route of %s: %w", addr, ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

func isLocal(handle *netlink.Handle, addr netip.Addr) (bool, error) {
	routes, err := list(func() ([]netlink.Route, error) {
		return handle.RouteListFiltered(family(addr),
			&netlink.Route{Dst: hostNet(addr), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL},
			netlink.RT_FILTER_DST|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return false, fmt.Errorf("list local routes: %w", err)
	}
	return len(routes) > 0, nil
}
