// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// The names of the two nodes. The data path runs on the first only.
const here, elsewhere = "n1", "n2"

// target is a server: a pod, or the host network of the node.
type target struct {
	ns netns.NsHandle
	// addrs are an IPv4 and an IPv6 address.
	addrs [2]netip.Addr
	node  string
}

// lab is a node with pods, between another host and another node that has pods
// too. All are network namespaces.
type lab struct {
	node, outside, peer netns.NsHandle
	targets             []*target
	pins, cgroup        string
	datapath            *bpf.Datapath
}

// clientPorts are those that the other host connects from.
const clientPorts = "40000 42047"

// localPods and remotePods are how many of them there are.
const localPods, remotePods = 4, 2

// Addresses of the node's two uplinks, and of who is behind them.
var (
	nodeAddrs    = pair("192.0.2.1", "2001:db8::1")
	outsideAddrs = pair("192.0.2.2", "2001:db8::2")
	nearAddrs    = pair("198.51.100.1", "2001:db8:1::1")
	peerAddrs    = pair("198.51.100.2", "2001:db8:1::2")
	gateways     = pair("10.244.0.1", "fd00:244::1")
	// balanced are the addresses that other hosts reach the node by besides
	// its own.
	balanced = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:ee::/64")}
)

func pair(v4, v6 string) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		node: roottest.NetNS(t), outside: roottest.NetNS(t), peer: roottest.NetNS(t),
		pins: filepath.Join(roottest.BPFFS(t), "slipway"), cgroup: roottest.Cgroup(t),
	}
	for _, ns := range []netns.NsHandle{l.node, l.outside, l.peer} {
		roottest.In(t, ns, loopback)
	}
	roottest.In(t, l.node, func() error {
		return errors.Join(sysctl("net/ipv4/ip_forward", "1"), sysctl("net/ipv6/conf/all/forwarding", "1"))
	})
	// So that ports are soon used again, as those of clients behind one address.
	roottest.In(t, l.outside, func() error { return sysctl("net/ipv4/ip_local_port_range", clientPorts) })
	var err error
	if l.datapath, err = bpf.Open(bpf.Config{PinDir: l.pins, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { l.datapath.Close() })
	l.uplink(t, l.outside, "up0", nodeAddrs, outsideAddrs)
	l.uplink(t, l.peer, "up1", nearAddrs, peerAddrs)
	for i := range localPods {
		l.addPod(t, i, pair(fmt.Sprintf("10.244.0.%d", 10+i), fmt.Sprintf("fd00:244::%d", 10+i)))
	}
	for i := range remotePods {
		l.addRemote(t, pair(fmt.Sprintf("10.244.9.%d", 10+i), fmt.Sprintf("fd00:244:9::%d", 10+i)))
	}
	l.targets = append(l.targets, &target{l.node, nodeAddrs, here})
	l.routes(t)
	return l
}

func sysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
}

// loopback readies a namespace.
func loopback() error {
	link, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func ipNet(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}

// wire connects the node with another namespace, and returns both ends.
func (l *lab) wire(t *testing.T, far netns.NsHandle, name string) (near, end netlink.Link) {
	t.Helper()
	ends := func(name string, link *netlink.Link) func() error {
		return func() error {
			var err error
			if *link, err = netlink.LinkByName(name); err != nil {
				return err
			}
			return netlink.LinkSetUp(*link)
		}
	}
	roottest.In(t, l.node, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(far))}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return ends(name, &near)()
	})
	roottest.In(t, far, ends("eth0", &end))
	roottest.WaitRunning(t, l.node, name)
	roottest.WaitRunning(t, far, "eth0")
	return near, end
}

func (l *lab) uplink(t *testing.T, far netns.NsHandle, name string, near, behind [2]netip.Addr) {
	t.Helper()
	l.wire(t, far, name)
	for i, bits := range []int{24, 64} {
		roottest.AddAddrs(t, l.node, name, netip.PrefixFrom(near[i], bits))
		roottest.AddAddrs(t, far, "eth0", netip.PrefixFrom(behind[i], bits))
	}
}

// addPod makes a pod as the pod network does: host routes, and neighbours that
// are known.
func (l *lab) addPod(t *testing.T, i int, addrs [2]netip.Addr) {
	t.Helper()
	pod := &target{roottest.NetNS(t), addrs, here}
	roottest.In(t, pod.ns, loopback)
	near, end := l.wire(t, pod.ns, fmt.Sprint("slwpod", i))
	for f, addr := range addrs {
		roottest.AddAddrs(t, pod.ns, "eth0", netip.PrefixFrom(addr, addr.BitLen()))
		roottest.In(t, pod.ns, func() error { return behind(end, near, gateways[f]) })
		roottest.In(t, l.node, func() error { return leadTo(near, end, addr) })
	}
	roottest.In(t, l.node, func() error {
		if err := l.datapath.AttachPod(near.Attrs().Index); err != nil {
			return err
		}
		return l.datapath.PutEndpoint(bpf.Endpoint{
			Addrs: addrs[:], Ifindex: near.Attrs().Index, PodMAC: end.Attrs().HardwareAddr, HostMAC: near.Attrs().HardwareAddr,
		})
	})
	l.targets = append(l.targets, pod)
}

// behind gives the pod its routes.
func behind(own, host netlink.Link, gateway netip.Addr) error {
	if err := leadTo(own, host, gateway); err != nil {
		return err
	}
	all := netip.PrefixFrom(gateway, 0).Masked().Addr()
	return netlink.RouteAdd(&netlink.Route{LinkIndex: own.Attrs().Index, Dst: ipNet(all, 0), Gw: gateway.AsSlice()})
}

// leadTo makes an address reachable over a link.
func leadTo(over, end netlink.Link, addr netip.Addr) error {
	index := over.Attrs().Index
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(addr, addr.BitLen()), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	return netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: end.Attrs().HardwareAddr,
	})
}

// addRemote makes a pod of the other node: its addresses are on loopback there.
func (l *lab) addRemote(t *testing.T, addrs [2]netip.Addr) {
	t.Helper()
	l.targets = append(l.targets, &target{l.peer, addrs, elsewhere})
	for _, addr := range addrs {
		roottest.AddAddrs(t, l.peer, "lo", netip.PrefixFrom(addr, addr.BitLen()))
	}
}

// routes are those between the nodes, and from the other host to what the node
// balances.
func (l *lab) routes(t *testing.T) {
	t.Helper()
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")}
	remote := []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24"), netip.MustParsePrefix("fd00:244:9::/64")}
	for f := range 2 {
		for _, r := range []struct {
			in  netns.NsHandle
			to  netip.Prefix
			via netip.Addr
		}{{l.node, remote[f], peerAddrs[f]}, {l.peer, pods[f], nearAddrs[f]}, {l.outside, balanced[f], nodeAddrs[f]}} {
			roottest.In(t, r.in, func() error {
				return netlink.RouteAdd(&netlink.Route{Dst: ipNet(r.to.Addr(), r.to.Bits()), Gw: r.via.AsSlice()})
			})
		}
	}
}
