// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// ErrNamespace says that a path is not the network namespace of a pod.
var ErrNamespace = errors.New("not a pod network namespace")

// Namespace is the network namespace of a pod.
type Namespace struct {
	path string
	ns   netns.NsHandle
}

// OpenPod opens the namespace at a path. It fails with ErrNamespace when
// there is none, or when it is that of the node.
func (h *Host) OpenPod(path string) (*Namespace, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrNamespace, err)
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(ns), &stat); err != nil || stat.Type != unix.NSFS_MAGIC {
		ns.Close()
		return nil, fmt.Errorf("open %s: %w", path, ErrNamespace)
	}
	if ns.Equal(h.ns) {
		ns.Close()
		return nil, fmt.Errorf("open %s: %w: it is the node's", path, ErrNamespace)
	}
	return &Namespace{path: path, ns: ns}, nil
}

// Close releases what OpenPod has opened.
func (n *Namespace) Close() { n.ns.Close() }

// Cookie returns the number by which the kernel knows the namespace.
func (n *Namespace) Cookie() (cookie uint64, err error) {
	err = n.do(func() (err error) {
		cookie, err = bpf.NetNSCookie()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look into %s: %w", n.path, err)
	}
	return cookie, nil
}

func (n *Namespace) fd() int { return int(n.ns) }

// Configure brings up the pod's end: addresses, a default route through each
// gateway, and the gateway as a permanent neighbour, so that neither ARP nor
// neighbour discovery happens. It waits until the pod takes packets.
func (n *Namespace) Configure(ctx context.Context, pod Pod) error {
	handle, err := openHandle(n.ns)
	if err != nil {
		return fmt.Errorf("configure %s in %s: %w", pod.PodName, n.path, err)
	}
	defer handle.Close()
	if err := n.setSysctls(pod); err != nil {
		return fmt.Errorf("configure %s in %s: %w", pod.PodName, n.path, err)
	}
	if err := bringUp(handle, pod); err != nil {
		return fmt.Errorf("configure %s in %s: %w", pod.PodName, n.path, err)
	}
	if err := waitLocal(ctx, handle, pod.Addrs); err != nil {
		return fmt.Errorf("configure %s in %s: %w", pod.PodName, n.path, err)
	}
	return nil
}

func bringUp(handle *netlink.Handle, pod Pod) error {
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	link, err := handle.LinkByName(pod.PodName)
	if err != nil {
		return err
	}
	for _, addr := range pod.Addrs {
		// Nobody else on this link can have the address.
		if err := handle.AddrAdd(link, &netlink.Addr{IPNet: hostNet(addr), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s: %w", addr, err)
		}
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", pod.PodName, err)
	}
	for _, gateway := range pod.Gateways {
		neigh := permanent(link.Attrs().Index, gateway, pod.HostMAC)
		if err := handle.NeighSet(&neigh); err != nil {
			return fmt.Errorf("add neighbour %s: %w", gateway, err)
		}
		for _, route := range podRoutes(link.Attrs().Index, gateway) {
			if err := handle.RouteAdd(&route); err != nil {
				return fmt.Errorf("add route to %s: %w", route.Dst, err)
			}
		}
	}
	return nil
}

// podRoutes are the routes of a pod through a gateway.
func podRoutes(ifindex int, gateway netip.Addr) []netlink.Route {
	return []netlink.Route{
		{LinkIndex: ifindex, Dst: hostNet(gateway), Scope: netlink.SCOPE_LINK, Table: unix.RT_TABLE_MAIN},
		{LinkIndex: ifindex, Dst: defaultNet(gateway), Gw: gateway.AsSlice(), Table: unix.RT_TABLE_MAIN},
	}
}

// setSysctls sets what the pod's end needs before it comes up. The files
// under /proc/sys/net are those of the thread's namespace.
func (n *Namespace) setSysctls(pod Pod) error {
	dir := filepath.Join("/proc/sys/net/ipv6/conf", pod.PodName)
	type setting struct{ name, value string }
	settings := []setting{{"addr_gen_mode", "1"}, {"accept_ra", "0"}}
	for _, addr := range pod.Addrs {
		if addr.Is6() {
			// The runtime may have turned IPv6 off for all of the pod.
			settings = append([]setting{{"disable_ipv6", "0"}}, settings...)
		}
	}
	return n.do(func() error {
		for _, s := range settings {
			err := os.WriteFile(filepath.Join(dir, s.name), []byte(s.value), 0o644)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("set sysctl %s: %w", s.name, err)
			}
		}
		return nil
	})
}

// do runs fn on a thread inside the namespace. A thread that cannot come back
// is thrown away.
func (n *Namespace) do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := netns.Set(n.ns); err != nil {
			done <- err
			return
		}
		err = fn()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
