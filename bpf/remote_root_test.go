// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// Addresses on the wire between the node and another node, and of a pod there.
var peerAddrs = map[string]struct{ node, peer, pod, pods string }{
	"IPv4": {"198.51.100.1", "198.51.100.2", "10.244.9.5", "10.244.9.0/24"},
	"IPv6": {"2001:db8:1::1", "2001:db8:1::2", "fd00:244:9::5", "fd00:244:9::/64"},
}

// peerOwn are the node's addresses on the uplink that addPeer makes.
func peerOwn() []netip.Addr { return addrs(peerAddrs["IPv4"].node + " " + peerAddrs["IPv6"].node) }

// addPeer makes another node on an uplink of its own, whose interface it returns,
// too. Its pod's addresses are on its loopback interface.
func (l *lab) addPeer(t *testing.T) (netns.NsHandle, int) {
	t.Helper()
	peer := roottest.NetNS(t)
	within(t, peer, func() error { return up("lo") })
	w := connect(t, l.node, peer, "up1")
	for _, a := range peerAddrs {
		address(t, l.node, w.near, a.node)
		address(t, peer, w.far, a.peer)
		pod := netip.MustParseAddr(a.pod)
		within(t, peer, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(pod, pod.BitLen()), Flags: 0x02})
		})
		roottest.WaitLocal(t, peer, pod)
		within(t, l.node, func() error {
			_, pods, err := net.ParseCIDR(a.pods)
			if err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: w.near, Dst: pods, Gw: net.ParseIP(a.peer)})
		})
	}
	within(t, l.node, func() error { return l.datapath.AttachUplink(w.near, peerOwn()) })
	return peer, w.near
}

// A connection from another host to a backend of another node goes there with
// this node's address as its source: that node knows no way to the client.
func TestRootRemoteBackend(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first := uint32(1000)
	for family, a := range peerAddrs {
		server := serveIn(t, peer, a.pod, "peer")
		for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP, "udp-unconnected": bpf.ProtocolUDP} {
			t.Run(fmt.Sprint(family, " ", kind), func(t *testing.T) {
				first += 4
				service := netip.AddrPortFrom(netip.MustParseAddr(labAddrs[family].node), uint16(30000+first))
				publish(t, l.datapath, bpf.Frontend{
					Addr: service.Addr(), Port: service.Port(), Protocol: protocol, Scope: bpf.ScopeExternal,
				}, first, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
				want := fmt.Sprintf("peer from %s", service)
				// The first one finds the neighbours; more of them share the backend.
				for range 5 {
					if got := askFrom(t, l.outside, kind, service); got != want {
						t.Fatalf("got %q, expected %q", got, want)
					}
				}
			})
		}
	}
}
