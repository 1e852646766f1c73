// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// wire is a veth pair between two namespaces, the first of which is the node.
type wire struct {
	near, far       int
	nearMAC, farMAC net.HardwareAddr
}

// lab is a node with a pod and another host, each a network namespace.
type lab struct {
	node, pod, outside netns.NsHandle
	uplink, podWire    wire
	datapath           *bpf.Datapath
	pins               string
}

type labAddr struct{ node, outside, pod, gateway string }

// Addresses of the lab, by family.
var labAddrs = map[string]labAddr{
	"IPv4": {"192.0.2.1", "192.0.2.2", "10.244.0.5", "10.244.0.1"},
	"IPv6": {"2001:db8::1", "2001:db8::2", "fd00:244::5", "fd00:244::1"},
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{node: roottest.NetNS(t), outside: roottest.NetNS(t)}
	for _, ns := range []netns.NsHandle{l.node, l.outside} {
		within(t, ns, func() error { return up("lo") })
	}
	l.uplink = connect(t, l.node, l.outside, "up0")
	within(t, l.node, func() error {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	for _, a := range labAddrs {
		address(t, l.node, l.uplink.near, a.node)
		address(t, l.outside, l.uplink.far, a.outside)
	}
	l.pins = bpffs(t)
	within(t, l.node, func() error {
		l.datapath = openDatapath(t, l.pins)
		return l.datapath.AttachUplink(l.uplink.near, []netip.Addr{netip.MustParseAddr(labAddrs["IPv4"].node), netip.MustParseAddr(labAddrs["IPv6"].node)})
	})
	l.pod, l.podWire = l.addPod(t, "slwpod", labAddrs["IPv4"].pod, labAddrs["IPv6"].pod)
	return l
}

// addPod makes a pod with an address of each family.
func (l *lab) addPod(t testing.TB, name, v4, v6 string) (netns.NsHandle, wire) {
	t.Helper()
	pod := roottest.NetNS(t)
	within(t, pod, func() error { return up("lo") })
	w := connect(t, l.node, pod, name)
	addrs := []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
	l.routePod(t, pod, w, addrs[0], netip.MustParseAddr(labAddrs["IPv4"].gateway))
	l.routePod(t, pod, w, addrs[1], netip.MustParseAddr(labAddrs["IPv6"].gateway))
	var cookie uint64
	within(t, pod, func() (err error) {
		cookie, err = bpf.NetNSCookie()
		return err
	})
	within(t, l.node, func() error {
		if err := l.datapath.AttachPod(w.near); err != nil {
			return err
		}
		return l.datapath.PutEndpoint(bpf.Endpoint{Addrs: addrs, Ifindex: w.near, PodMAC: w.farMAC, HostMAC: w.nearMAC, NetNS: cookie})
	})
	return pod, w
}

// within runs fn in a namespace.
func within(t testing.TB, ns netns.NsHandle, fn func() error) {
	t.Helper()
	roottest.In(t, ns, fn)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func connect(t testing.TB, near, far netns.NsHandle, name string) wire {
	t.Helper()
	return connectAs(t, near, far, name, "eth0")
}

func connectAs(t testing.TB, near, far netns.NsHandle, name, farName string) wire {
	t.Helper()
	var w wire
	within(t, near, func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: farName, PeerNamespace: netlink.NsFd(int(far)),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		w.near, w.nearMAC = link.Attrs().Index, link.Attrs().HardwareAddr
		return netlink.LinkSetUp(link)
	})
	within(t, far, func() error {
		link, err := netlink.LinkByName(farName)
		if err != nil {
			return err
		}
		w.far, w.farMAC = link.Attrs().Index, link.Attrs().HardwareAddr
		return netlink.LinkSetUp(link)
	})
	roottest.WaitRunning(t, near, name)
	roottest.WaitRunning(t, far, farName)
	return w
}

func address(t testing.TB, ns netns.NsHandle, index int, text string) {
	t.Helper()
	addr := netip.MustParseAddr(text)
	bits := 24
	if addr.Is6() {
		bits = 64
	}
	within(t, ns, func() error {
		link, err := netlink.LinkByIndex(index)
		if err != nil {
			return err
		}
		// No duplicate address detection: it would take a second.
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr, bits), Flags: 0x02})
	})
	roottest.WaitLocal(t, ns, addr)
}

func ipNet(addr netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}
}

// routePod gives the pod an address as the pod network does: a host route, and
// neighbours that are known.
func (l *lab) routePod(t testing.TB, ns netns.NsHandle, w wire, pod, gateway netip.Addr) {
	t.Helper()
	within(t, ns, func() error {
		link, err := netlink.LinkByIndex(w.far)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(pod, pod.BitLen()), Flags: 0x02}); err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: w.far, Dst: ipNet(gateway, gateway.BitLen()), Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
		if err := netlink.NeighAdd(neighbour(w.far, gateway, w.nearMAC)); err != nil {
			return err
		}
		any := netip.PrefixFrom(gateway, 0).Masked().Addr()
		return netlink.RouteAdd(&netlink.Route{LinkIndex: w.far, Dst: ipNet(any, 0), Gw: gateway.AsSlice()})
	})
	roottest.WaitLocal(t, ns, pod)
	within(t, l.node, func() error {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: w.near, Dst: ipNet(pod, pod.BitLen()), Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
		return netlink.NeighAdd(neighbour(w.near, pod, w.farMAC))
	})
}

func neighbour(index int, addr netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Neigh{LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac}
}

// serveIn starts the servers of serve in a namespace.
func serveIn(t testing.TB, ns netns.NsHandle, host, name string) (at netip.AddrPort) {
	t.Helper()
	within(t, ns, func() error {
		at = serve(t, host, name)
		return nil
	})
	return at
}

// askFrom runs a client process in a namespace.
func askFrom(t testing.TB, ns netns.NsHandle, kind string, to netip.AddrPort) string {
	t.Helper()
	var out []byte
	within(t, ns, func() error {
		var err error
		out, err = exec.Command("/proc/self/exe", "client", "", kind, to.String()).Output()
		return err
	})
	return strings.TrimSpace(string(out))
}

func TestRootNodePort(t *testing.T) {
	l := newLab(t)
	first := uint32(0)
	for family, a := range labAddrs {
		for backend, tt := range map[string]struct {
			ns    netns.NsHandle
			host  string
			flags bpf.BackendFlags
		}{
			"pod":          {l.pod, a.pod, bpf.BackendLocalPod},
			"host network": {l.node, a.node, bpf.BackendLocalHost},
		} {
			server := serveIn(t, tt.ns, tt.host, backend)
			for kind, protocol := range map[string]bpf.Protocol{
				"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP, "udp-unconnected": bpf.ProtocolUDP,
			} {
				t.Run(fmt.Sprint(family, " ", kind, " to ", backend), func(t *testing.T) {
					first += 4
					service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
					publish(t, l.datapath, bpf.Frontend{
						Addr: service.Addr(), Port: service.Port(), Protocol: protocol, Scope: bpf.ScopeExternal,
					}, first, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: tt.flags})
					want := fmt.Sprintf("%s from %s", backend, service)
					if got := askFrom(t, l.outside, kind, service); got != want {
						t.Errorf("got %q, expected %q", got, want)
					}
				})
			}
		}
	}
}

func TestRootUplinkCountsDrops(t *testing.T) {
	l := newLab(t)
	node := netip.MustParseAddr(labAddrs["IPv4"].node)
	for i, tt := range []struct {
		reason   string
		backends []bpf.Backend
	}{
		{"fib", []bpf.Backend{{Addr: netip.MustParseAddr("10.244.9.9"), Port: 80}}},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			service := netip.AddrPortFrom(node, uint16(30100+i))
			publish(t, l.datapath, bpf.Frontend{
				Addr: node, Port: service.Port(), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal,
			}, uint32(100+10*i), tt.backends...)
			askFrom(t, l.outside, "udp", service)
			wantDrop(t, l.datapath, tt.reason)
		})
	}
}

func TestRootPodCannotSpoof(t *testing.T) {
	l := newLab(t)
	server := serveIn(t, l.outside, labAddrs["IPv4"].outside, "outside")
	within(t, l.outside, func() error {
		// The way back to the address that the pod may not use.
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParseAddr("10.244.0.0"), 16), Gw: net.ParseIP(labAddrs["IPv4"].node)})
	})
	if got := askFrom(t, l.pod, "udp", server); !strings.HasPrefix(got, "outside") {
		t.Fatalf("with its own address: got %q", got)
	}
	within(t, l.pod, func() error {
		link, err := netlink.LinkByIndex(l.podWire.far)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParseAddr("10.244.0.66"), 32)}); err != nil {
			return err
		}
		return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.MustParseAddr(labAddrs["IPv4"].pod), 32)})
	})
	if got := askFrom(t, l.pod, "udp", server); strings.HasPrefix(got, "outside") {
		t.Errorf("with an address of its own choice: got %q", got)
	}
	drops, err := l.datapath.Drops()
	if err != nil {
		t.Fatal(err)
	}
	if drops[2] == 0 {
		t.Errorf("no packet was counted as spoofed: %v", drops)
	}
}
