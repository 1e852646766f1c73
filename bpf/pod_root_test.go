// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
)

// Addresses of a second pod on the node, and of Services of the cluster.
var podServices = map[string]struct{ other, service, pods, gateway string }{
	"IPv4": {"10.244.0.6", "10.96.0.7", "10.244.0.0/24", peerAddrs["IPv4"].node},
	"IPv6": {"fd00:244::6", "fd00:96::7", "fd00:244::/64", peerAddrs["IPv6"].node},
}

// newPodLab has another node, which knows the way to the pods of this one, and two
// pods. No socket is translated: packets have the addresses of Services.
func newPodLab(t *testing.T) (l *lab, other, peer netns.NsHandle) {
	t.Helper()
	l = newLab(t)
	peer, _ = l.addPeer(t)
	other, _ = l.addPod(t, "slwother", podServices["IPv4"].other, podServices["IPv6"].other)
	for _, s := range podServices {
		within(t, peer, func() error {
			_, pods, err := net.ParseCIDR(s.pods)
			if err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{Dst: pods, Gw: net.ParseIP(s.gateway)})
		})
	}
	return l, other, peer
}

// podBackends are all places that a backend can be at, seen from the lab's pod.
func (l *lab) podBackends(family string, other, peer netns.NsHandle) map[string]place {
	a, s := labAddrs[family], podServices[family]
	return map[string]place{
		"another pod":  {other, s.other, bpf.BackendLocalPod},
		"itself":       {l.pod, a.pod, bpf.BackendLocalPod},
		"host network": {l.node, a.node, bpf.BackendLocalHost},
		"another node": {peer, peerAddrs[family].pod, 0},
	}
}

// place is where a backend is.
type place struct {
	ns    netns.NsHandle
	host  string
	flags bpf.BackendFlags
}

// A pod whose sockets are not seen, as those of a virtual machine, reaches Services.
func TestRootPodToService(t *testing.T) {
	l, other, peer := newPodLab(t)
	first := uint32(0)
	for family := range labAddrs {
		for name, at := range l.podBackends(family, other, peer) {
			server := serveIn(t, at.ns, at.host, name)
			for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP, "udp-unconnected": bpf.ProtocolUDP} {
				t.Run(fmt.Sprint(family, " ", kind, " to ", name), func(t *testing.T) {
					first += 4
					service := netip.AddrPortFrom(netip.MustParseAddr(podServices[family].service), uint16(1000+first))
					publish(t, l.datapath, bpf.Frontend{Addr: service.Addr(), Port: service.Port(), Protocol: protocol},
						first, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: at.flags})
					want := fmt.Sprintf("%s from %s", name, service)
					for range 3 {
						if got := askFrom(t, l.pod, kind, service); got != want {
							t.Fatalf("got %q, expected %q", got, want)
						}
					}
				})
			}
		}
	}
}

// Large datagrams get there and back as well, and errors come back.
func TestRootPodToServiceLarge(t *testing.T) {
	l, other, peer := newPodLab(t)
	first := uint32(0)
	for family := range labAddrs {
		for name, at := range l.podBackends(family, other, peer) {
			t.Run(family+" "+name, func(t *testing.T) {
				first += 4
				server := echoUDP(t, at.ns, at.host)
				service := netip.AddrPortFrom(netip.MustParseAddr(podServices[family].service), uint16(1000+first))
				f := bpf.Frontend{Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolUDP}
				backend := bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: at.flags}
				publish(t, l.datapath, f, first, backend)
				within(t, l.pod, func() error { return sendLarge(service) })
				first += 4
				backend.Port = 9
				publish(t, l.datapath, f, first, backend)
				if got := askFrom(t, l.pod, "udp", service); !strings.Contains(got, "connection refused") {
					t.Errorf("got %q, expected that it is refused", got)
				}
			})
		}
	}
}

// Services without endpoints refuse such pods, too.
func TestRootPodToServiceRefused(t *testing.T) {
	l := newLab(t)
	for family, s := range podServices {
		addr := netip.MustParseAddr(s.service)
		publish(t, l.datapath, bpf.Frontend{Addr: addr}, 0)
		for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP} {
			publish(t, l.datapath, bpf.Frontend{Addr: addr, Port: 80, Protocol: protocol}, 0)
			for _, port := range []uint16{80, 81} {
				t.Run(fmt.Sprint(family, " ", kind, " ", port), func(t *testing.T) {
					if got := askFrom(t, l.pod, kind, netip.AddrPortFrom(addr, port)); !strings.Contains(got, "connection refused") {
						t.Errorf("got %q, expected that it is refused", got)
					}
				})
			}
		}
	}
}
