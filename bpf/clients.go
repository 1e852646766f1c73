// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// NetNSCookie returns the cookie of the calling thread's network namespace. No
// other namespace has the same until the machine is started again.
func NetNSCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("read cookie of network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read cookie of network namespace: %w", err)
	}
	return cookie, nil
}

// SetNode has sockets of the calling thread's network namespace, which is that of
// the node, known by the first of these addresses of each family.
func (d *Datapath) SetNode(addrs []netip.Addr) error {
	cookie, err := NetNSCookie()
	if err != nil {
		return err
	}
	return d.putClient(cookie, ownAddrs(addrs))
}

func (d *Datapath) putClient(cookie uint64, own uplinkPodAddrs) error {
	if err := d.maps.Clients.Put(cookie, own); err != nil {
		return fmt.Errorf("put addresses of network namespace %d: %w", cookie, err)
	}
	return nil
}

// ownAddrs are the first of each family.
func ownAddrs(addrs []netip.Addr) uplinkPodAddrs {
	var own uplinkPodAddrs
	for _, addr := range slices.Backward(addrs) {
		if addr.Unmap().Is4() {
			own.V4 = toAddr(addr)
		} else {
			own.V6 = toAddr(addr)
		}
	}
	return own
}
