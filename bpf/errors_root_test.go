// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// behindAddrs are those of a host behind another one, and of that one's interface.
type behindAddrs struct{ router, host, network string }

// addBehind makes a host behind another one, which forwards no packets of
// more than 1400 bytes to it. The host does not know that.
func addBehind(t *testing.T, router netns.NsHandle, name string, addrs ...behindAddrs) netns.NsHandle {
	t.Helper()
	host := roottest.NetNS(t)
	within(t, host, func() error { return up("lo") })
	w := connect(t, router, host, name)
	within(t, router, func() error {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	for _, a := range addrs {
		address(t, router, w.near, a.router)
		address(t, host, w.far, a.host)
		within(t, router, func() error {
			to := netip.MustParseAddr(a.host)
			return netlink.RouteAdd(&netlink.Route{LinkIndex: w.near, Dst: ipNet(to, to.BitLen()), MTU: 1400, MTULock: true})
		})
		within(t, host, func() error {
			gateway := netip.MustParseAddr(a.router)
			any := netip.PrefixFrom(gateway, 0).Masked().Addr()
			return netlink.RouteAdd(&netlink.Route{LinkIndex: w.far, Dst: ipNet(any, 0), Gw: gateway.AsSlice()})
		})
	}
	return host
}

// routeBehind leads from the node to hosts behind another one.
func (l *lab) routeBehind(t *testing.T, network, via string) {
	t.Helper()
	within(t, l.node, func() error {
		_, dst, err := net.ParseCIDR(network)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
	})
}

const bulk = 300_000

// serveBulk reads all that comes by a connection, and then sends as much back.
func serveBulk(t *testing.T, ns netns.NsHandle, host string) (at netip.AddrPort) {
	t.Helper()
	within(t, ns, func() error {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		at = netip.MustParseAddrPort(listener.Addr().String())
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					if n, err := io.Copy(io.Discard, conn); err == nil && n == bulk {
						_, _ = conn.Write(make([]byte, bulk))
					}
				}()
			}
		}()
		return nil
	})
	return at
}

// exchangeBulk sends much and receives as much.
func exchangeBulk(to netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", to.String(), 3*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(make([]byte, bulk)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n != bulk {
		err = fmt.Errorf("%d bytes came, expected %d", n, bulk)
	}
	return err
}

// Routers tell the end that they hear about by its Service how large packets may
// be. Both ways of each connection have a link that takes smaller ones than its ends
// expect; this node may itself be the router before it.
func TestRootPathMTU(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	clients := map[string]behindAddrs{
		"IPv4": {"203.0.113.1", "203.0.113.2", "203.0.113.0/24"},
		"IPv6": {"2001:db8:5::1", "2001:db8:5::2", "2001:db8:5::/64"},
	}
	remotes := map[string]behindAddrs{
		"IPv4": {"10.244.8.1", "10.244.8.5", "10.244.8.0/24"},
		"IPv6": {"fd00:244:8::1", "fd00:244:8::5", "fd00:244:8::/64"},
	}
	client := addBehind(t, l.outside, "cl0", clients["IPv4"], clients["IPv6"])
	remote := addBehind(t, peer, "rm0", remotes["IPv4"], remotes["IPv6"])
	first := uint32(0)
	for family, a := range labAddrs {
		narrow := peerAddrs[family]
		within(t, l.node, func() error {
			_, dst, err := net.ParseCIDR(narrow.pods)
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(narrow.peer), MTU: 1400, MTULock: true})
		})
		l.routeBehind(t, clients[family].network, a.outside)
		l.routeBehind(t, remotes[family].network, peerAddrs[family].peer)
		for name, tt := range map[string]struct {
			ns    netns.NsHandle
			host  string
			flags bpf.BackendFlags
		}{
			"pod":                      {l.pod, a.pod, bpf.BackendLocalPod},
			"host network":             {l.node, a.node, bpf.BackendLocalHost},
			"another node":             {remote, remotes[family].host, 0},
			"another node, way narrow": {peer, narrow.pod, 0},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				first += 4
				server := serveBulk(t, tt.ns, tt.host)
				service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
				publish(t, l.datapath, bpf.Frontend{
					Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal,
				}, first, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: tt.flags})
				within(t, client, func() error { return exchangeBulk(service) })
			})
		}
	}
}

// A client hears that nobody listens to its datagrams from a backend of any place.
func TestRootErrors(t *testing.T) {
	l := newLab(t)
	l.addPeer(t)
	first := uint32(0)
	for family, a := range labAddrs {
		for name, backend := range map[string]bpf.Backend{
			"pod":          {Addr: netip.MustParseAddr(a.pod), Flags: bpf.BackendLocalPod},
			"host network": {Addr: netip.MustParseAddr(a.node), Flags: bpf.BackendLocalHost},
			"another node": {Addr: netip.MustParseAddr(peerAddrs[family].pod)},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				first += 4
				backend.Port = 9
				service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
				publish(t, l.datapath, bpf.Frontend{
					Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal,
				}, first, backend)
				if got := askFrom(t, l.outside, "udp", service); !strings.Contains(got, "connection refused") {
					t.Errorf("got %q, expected that it is refused", got)
				}
			})
		}
	}
}
