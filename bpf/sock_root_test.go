// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
)

// kinds are the ways to talk to a service, with the addresses to use.
var kinds = []struct {
	name, kind, service, backend string
	protocol                     bpf.Protocol
}{
	{"TCP IPv4", "tcp", "10.96.0.9", "127.0.0.1", bpf.ProtocolTCP},
	{"TCP IPv6", "tcp", "fd00:96::9", "::1", bpf.ProtocolTCP},
	{"TCP v4-mapped", "tcp-mapped", "10.96.0.9", "127.0.0.1", bpf.ProtocolTCP},
	{"UDP IPv4", "udp", "10.96.0.9", "127.0.0.1", bpf.ProtocolUDP},
	{"UDP IPv6", "udp", "fd00:96::9", "::1", bpf.ProtocolUDP},
	{"UDP v4-mapped", "udp-mapped", "10.96.0.9", "127.0.0.1", bpf.ProtocolUDP},
	{"UDP unconnected IPv4", "udp-unconnected", "10.96.0.9", "127.0.0.1", bpf.ProtocolUDP},
	{"UDP unconnected IPv6", "udp-unconnected", "fd00:96::9", "::1", bpf.ProtocolUDP},
	{"UDP unconnected v4-mapped", "udp-unconnected-mapped", "10.96.0.9", "127.0.0.1", bpf.ProtocolUDP},
}

func TestRootSockReachesBackend(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	for i, tt := range kinds {
		t.Run(tt.name, func(t *testing.T) {
			server := serve(t, tt.backend, "one")
			service := netip.AddrPortFrom(netip.MustParseAddr(tt.service), 80)
			publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: tt.protocol}, uint32(10*i),
				bpf.Backend{Addr: server.Addr(), Port: server.Port()})
			if got, want := ask(t, group, tt.kind, service), "one from "+service.String(); got != want {
				t.Errorf("got %q, expected %q", got, want)
			}
		})
	}
}

// A client stays with its backend until its time is over or the backend is
// gone.
func TestRootSockAffinity(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	var backends []bpf.Backend
	for _, name := range []string{"one", "two", "three"} {
		server := serve(t, "127.0.0.1", name)
		backends = append(backends, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	}
	service := netip.MustParseAddrPort("10.96.0.9:80")
	front := bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}
	publish(t, d, front, 0, backends...)
	answers := func(n int) map[string]bool {
		seen := map[string]bool{}
		for range n {
			seen[ask(t, group, "tcp", service)] = true
		}
		return seen
	}
	set := func(count, affinity uint32) {
		if err := d.SetFrontend(front, bpf.Range{Count: count, Affinity: affinity}); err != nil {
			t.Fatal(err)
		}
	}
	if seen := answers(60); len(seen) != 3 {
		t.Errorf("without affinity: %v", seen)
	}
	set(3, 60)
	if seen := answers(60); len(seen) != 1 {
		t.Errorf("with affinity: %v", seen)
	}
	set(1, 60)
	if seen := answers(20); len(seen) != 1 || !seen["one from "+service.String()] {
		t.Errorf("with the first backend only: %v", seen)
	}
	set(3, 60)
	if seen := answers(20); len(seen) != 1 || !seen["one from "+service.String()] {
		t.Errorf("after more came: %v", seen)
	}
	set(3, 0)
	if seen := answers(60); len(seen) != 3 {
		t.Errorf("without affinity again: %v", seen)
	}
}

func TestRootSockLeavesOthersAlone(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	server := serve(t, "127.0.0.1", "direct")
	for _, kind := range []string{"tcp", "udp", "udp-unconnected", "tcp-mapped"} {
		if got, want := ask(t, group, kind, server), "direct from "+server.String(); got != want {
			t.Errorf("%s: got %q, expected %q", kind, got, want)
		}
	}
}

// Frontends without backends, and the ports of a cluster address that its Service
// does not have, are refused. Nothing may leave the node by its routes.
func TestRootSockRefuses(t *testing.T) {
	group, l := cgroup(t), newLab(t)
	if err := l.datapath.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"10.96.0.9", "fd00:96::9"} {
		// The way that packets would go.
		gateway := labAddrs["IPv4"].outside
		if netip.MustParseAddr(addr).Is6() {
			gateway = labAddrs["IPv6"].outside
		}
		within(t, l.node, func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen()), Gw: net.ParseIP(gateway)})
		})
		publish(t, l.datapath, bpf.Frontend{Addr: netip.MustParseAddr(addr)}, 0)
	}
	for from, ns := range map[string]netns.NsHandle{"node": l.node, "pod": l.pod} {
		for _, tt := range kinds {
			service := netip.AddrPortFrom(netip.MustParseAddr(tt.service), 81)
			publish(t, l.datapath, bpf.Frontend{Addr: service.Addr(), Port: service.Port(), Protocol: tt.protocol}, 0)
			for _, port := range []uint16{81, 99} {
				t.Run(fmt.Sprint(from, " ", tt.name, " port ", port), func(t *testing.T) {
					within(t, ns, func() error {
						if got := ask(t, group, tt.kind, netip.AddrPortFrom(service.Addr(), port)); !strings.Contains(got, "connection refused") {
							return fmt.Errorf("got %q, expected that the connection is refused", got)
						}
						return nil
					})
				})
			}
		}
	}
}

// To connect a UDP socket reaches nobody, so it cannot be refused.
func TestRootSockConnectsUDP(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		service := netip.AddrPortFrom(netip.MustParseAddr(addr), 81)
		publish(t, d, bpf.Frontend{Addr: service.Addr()}, 0)
		publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 82, Protocol: bpf.ProtocolUDP}, 0)
		for _, port := range []uint16{81, 82} {
			if got := ask(t, group, "udp-connect", netip.AddrPortFrom(service.Addr(), port)); got != "connected" {
				t.Errorf("port %d: got %q", port, got)
			}
		}
	}
}

func TestRootSockSpreads(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	var backends []bpf.Backend
	for _, name := range []string{"a", "b", "c"} {
		server := serve(t, "127.0.0.1", name)
		backends = append(backends, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	}
	service := netip.MustParseAddrPort("10.96.0.9:80")
	publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}, 0, backends...)
	seen := map[string]int{}
	for range 60 {
		seen[ask(t, group, "tcp", service)[:1]]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if seen[name] == 0 {
			t.Errorf("backend %s got none of 60 connections: %v", name, seen)
		}
	}
}

// TestRootSockOutlivesItsProcess drops all handles, as a killed process does,
// and lets another Datapath adopt what is pinned.
func TestRootSockOutlivesItsProcess(t *testing.T) {
	group, pins := cgroup(t), bpffs(t)
	first := openDatapath(t, pins)
	if err := first.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	server := serve(t, "127.0.0.1", "one")
	service := netip.MustParseAddrPort("10.96.0.9:80")
	frontend := bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}
	publish(t, first, frontend, 0, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	want := "one from " + service.String()
	if got := ask(t, group, "tcp", service); got != want {
		t.Fatalf("without a process: got %q, expected %q", got, want)
	}
	second := openDatapath(t, pins)
	if err := second.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	known, err := second.Frontends()
	if err != nil || known[frontend].Count != 1 {
		t.Fatalf("adopted frontends are %v (%v)", known, err)
	}
	if got := ask(t, group, "tcp", service); got != want {
		t.Fatalf("adopted: got %q, expected %q", got, want)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := bpf.Remove(pins); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("pins are left (%v)", err)
	}
	if got := ask(t, group, "tcp", service); strings.HasPrefix(got, "one") {
		t.Error("programs are still attached after Remove")
	}
}
