// SPDX-License-Identifier: Apache-2.0

// Package device makes and removes the network devices of a node's pods: the
// veth pair of each pod with its addresses, routes and neighbours, and the
// device with the node's gateway addresses. It owns every veth whose
// name begins with "slw" and every route of protocol 83 in the node's
// namespace, and keeps nothing in memory: the kernel is asked each time. It
// sets no sysctl outside of pods.
//
// A Host may be used from any goroutine; callers keep operations on one pod
// apart.
package device

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Prefix is what the names of all pod interfaces begin with.
const Prefix = "slw"

// routeProtocol marks the routes that are ours, see rt_protos(5) of iproute2.
const routeProtocol netlink.RouteProtocol = 83

// socketTimeout bounds each question to the kernel.
const socketTimeout = 10 * time.Second

// defaultMTU is used on a node without a default route.
const defaultMTU = 1500

// Host is the network namespace of the node.
type Host struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	// Sources are addresses of the node: it speaks to pods from the first of
	// their family, and from the gateway where there is none. A socket of the
	// node that is bound to no address then answers from the one that pods
	// know the node by.
	Sources []netip.Addr
}

// OpenHost opens the namespace at a path, or that of this process if path is
// empty.
func OpenHost(path string) (*Host, error) {
	if path == "" {
		path = "/proc/self/ns/net"
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open node namespace %s: %w", path, err)
	}
	handle, err := openHandle(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("open node namespace %s: %w", path, err)
	}
	return &Host{ns: ns, handle: handle}, nil
}

func openHandle(ns netns.NsHandle) (*netlink.Handle, error) {
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := handle.SetSocketTimeout(socketTimeout); err != nil {
		handle.Close()
		return nil, err
	}
	return handle, nil
}

// Close releases what OpenHost has opened. No device changes.
func (h *Host) Close() {
	h.handle.Close()
	h.ns.Close()
}

// FD is the file descriptor of the namespace, valid until Close.
func (h *Host) FD() int { return int(h.ns) }

// UplinkMTU returns the MTU of the device of the default route, in bytes; the
// smaller one if IPv4 and IPv6 differ, and 1500 if there is none.
func (h *Host) UplinkMTU() (int, error) {
	mtu := 0
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// A nil Dst in the filter means the default route.
		routes, err := list(func() ([]netlink.Route, error) {
			return h.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return 0, fmt.Errorf("list default routes: %w", err)
		}
		for _, index := range linkIndexes(routes) {
			link, err := h.handle.LinkByIndex(index)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("find uplink: %w", err)
			}
			if n := link.Attrs().MTU; link.Attrs().Flags&net.FlagLoopback == 0 && (mtu == 0 || n < mtu) {
				mtu = n
			}
		}
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	return mtu, nil
}

func linkIndexes(routes []netlink.Route) []int {
	var indexes []int
	for _, r := range routes {
		if r.LinkIndex != 0 {
			indexes = append(indexes, r.LinkIndex)
		}
		for _, hop := range r.MultiPath {
			indexes = append(indexes, hop.LinkIndex)
		}
	}
	return indexes
}

// listTries bounds how often a list is asked for.
const listTries = 20

// list asks for a list until it did not change while the kernel sent it.
func list[T any](ask func() ([]T, error)) ([]T, error) {
	var all []T
	var err error
	for range listTries {
		if all, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// hostNet is an address as the prefix that holds nothing else.
func hostNet(addr netip.Addr) *net.IPNet {
	return ipNet(netip.PrefixFrom(addr, addr.BitLen()))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// defaultNet is the prefix of the default route of an address's family.
func defaultNet(addr netip.Addr) *net.IPNet {
	if addr.Is4() {
		return ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
