// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// balancer is another node, between the client and the node of a lab.
type balancer struct {
	ns       netns.NsHandle
	datapath *bpf.Datapath
	// client and node are the wires to both, whose near ends are the balancer's.
	client, node wire
}

// Addresses of Services that only balancers have, and on the wires of the first
// balancer; those of the second have a 2 in place of the last 1.
var dsrAddrs = map[string]struct{ service, toClient, client, toNode, node string }{
	"IPv4": {"203.0.113.10", "10.1.%d.1", "10.1.%d.2", "10.2.%d.1", "10.2.%d.2"},
	"IPv6": {"2001:db8:5::10", "fd01:0:0:%d::1", "fd01:0:0:%d::2", "fd02:0:0:%d::1", "fd02:0:0:%d::2"},
}

// addBalancer makes a node that has a wire to the client and one to the lab's
// node. What the node sends to the client goes straight there.
func (l *lab) addBalancer(t *testing.T, number int, xdp bool) *balancer {
	t.Helper()
	b := &balancer{ns: roottest.NetNS(t)}
	within(t, b.ns, func() error {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return up("lo")
	})
	name := fmt.Sprintf("lb%d", number)
	b.client = connectAs(t, b.ns, l.outside, "client", name)
	b.node = connectAs(t, b.ns, l.node, "node", name)
	var toClient, toNode, own []netip.Addr
	for family, a := range dsrAddrs {
		at := func(format string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, number)) }
		address(t, b.ns, b.client.near, at(a.toClient).String())
		address(t, l.outside, b.client.far, at(a.client).String())
		address(t, b.ns, b.node.near, at(a.toNode).String())
		address(t, l.node, b.node.far, at(a.node).String())
		toClient, toNode, own = append(toClient, at(a.toClient)), append(toNode, at(a.toNode)), append(own, at(a.node))
		within(t, b.ns, func() error {
			pod, outside := netip.MustParseAddr(labAddrs[family].pod), netip.MustParseAddr(labAddrs[family].outside)
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(pod, pod.BitLen()), Gw: at(a.node).AsSlice()}); err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(outside, outside.BitLen()), Gw: at(a.client).AsSlice()})
		})
	}
	if xdp {
		for _, end := range []struct {
			ns   netns.NsHandle
			name string
		}{{l.outside, name}, {l.node, name}, {b.ns, "client"}, {b.ns, "node"}} {
			takesXDP(t, end.ns, end.name)
		}
	}
	pins := bpffs(t)
	within(t, b.ns, func() error {
		b.datapath = openDatapath(t, pins)
		if err := b.datapath.AttachUplink(b.client.near, toClient); err != nil {
			return err
		}
		return b.datapath.AttachUplink(b.node.near, toNode)
	})
	within(t, l.node, func() error { return l.datapath.AttachUplink(b.node.far, own) })
	wantXDP(t, b.datapath, b.client.near, xdp)
	wantXDP(t, b.datapath, b.node.near, xdp)
	return b
}

// leadTo has the client reach the services by a balancer.
func (l *lab) leadTo(t *testing.T, number int) {
	t.Helper()
	within(t, l.outside, func() error {
		for family, a := range dsrAddrs {
			service := netip.MustParseAddr(a.service)
			err := netlink.RouteReplace(&netlink.Route{
				Dst: ipNet(service, service.BitLen()), Gw: net.ParseIP(fmt.Sprintf(a.toClient, number)),
				Src: net.ParseIP(labAddrs[family].outside),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// countIn starts a server, TCP and UDP, that answers with its name, how much it was
// sent and by whom.
func countIn(t *testing.T, ns netns.NsHandle, host, name string) (at netip.AddrPort) {
	t.Helper()
	within(t, ns, func() error {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		at = netip.MustParseAddrPort(listener.Addr().String())
		packets, err := net.ListenPacket("udp", at.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { packets.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go count(name, func(buf []byte) (int, net.Addr, error) {
					n, err := conn.Read(buf)
					return n, conn.RemoteAddr(), err
				}, func(answer []byte, _ net.Addr) (int, error) { return conn.Write(answer) })
			}
		}()
		go count(name, packets.ReadFrom, packets.WriteTo)
		return nil
	})
	return at
}

func count(name string, read func([]byte) (int, net.Addr, error), write func([]byte, net.Addr) (int, error)) {
	buf := make([]byte, 2048)
	for {
		n, from, err := read(buf)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		if _, err := write(fmt.Appendf(nil, "%s %d %s", name, n, host), from); err != nil {
			return
		}
	}
}

// say sends so many bytes over a connection, and returns who has answered and what
// client that has seen.
func say(conn net.Conn, size int) (name, client string, err error) {
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", "", err
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return "", "", err
	}
	buf := make([]byte, 128)
	n, err := conn.Read(buf)
	if err != nil {
		return "", "", err
	}
	got := 0
	if _, err := fmt.Sscan(string(buf[:n]), &name, &got, &client); err != nil || got != size {
		return "", "", fmt.Errorf("%d bytes were answered with %q", size, buf[:n])
	}
	return name, client, nil
}

// A connection goes on when the node that balances it is lost and another takes
// over: the backend's node answers the client itself, and the other node leads to
// the same backend.
func TestRootConnectionSurvivesNode(t *testing.T) {
	for _, xdp := range []bool{false, true} {
		t.Run(fmt.Sprintf("XDP %v", xdp), func(t *testing.T) {
			l := newLab(t)
			first, second := l.addBalancer(t, 1, xdp), l.addBalancer(t, 2, xdp)
			for family, a := range dsrAddrs {
				l.publishDirect(t, family, netip.MustParseAddr(a.service), first.datapath, second.datapath, l.datapath)
			}
			l.leadTo(t, 1)
			type open struct {
				net.Conn
				backend string
			}
			var conns []open
			backends := map[string]bool{}
			for family, a := range dsrAddrs {
				for _, network := range []string{"tcp", "udp"} {
					for range 10 {
						conn := l.dialOutside(t, network, a.service)
						name, client, err := say(conn, 10)
						if err != nil || client != labAddrs[family].outside {
							t.Fatalf("%s %s: the server sees %q, %v; drops at the balancer %v, at the node %v", family, network, client, err, drops(t, first.datapath), drops(t, l.datapath))
						}
						conns = append(conns, open{conn, name})
						backends[name] = true
					}
				}
			}
			if len(backends) < 3 {
				t.Errorf("only the backends %v were used", backends)
			}
			within(t, first.ns, func() error {
				for _, name := range []string{"client", "node"} {
					link, err := netlink.LinkByName(name)
					if err != nil {
						return err
					}
					if err := netlink.LinkSetDown(link); err != nil {
						return err
					}
				}
				return nil
			})
			l.leadTo(t, 2)
			for _, c := range conns {
				for range 3 {
					if name, _, err := say(c, 20); err != nil || name != c.backend {
						t.Fatalf("%s to %s: got %q, %v, expected %s; drops at the balancer %v", c.LocalAddr().Network(), c.RemoteAddr(), name, err, c.backend, drops(t, second.datapath))
					}
				}
			}
		})
	}
}

// publishDirect serves an address on several nodes, with the same Maglev table of
// three servers in the lab's pod.
func (l *lab) publishDirect(t *testing.T, family string, service netip.Addr, datapaths ...*bpf.Datapath) {
	t.Helper()
	first := uint32(1000)
	if service.Is6() {
		first = 2000
	}
	var servers []netip.AddrPort
	for i := range 3 {
		servers = append(servers, countIn(t, l.pod, labAddrs[family].pod, fmt.Sprintf("server%d", i)))
	}
	for _, d := range datapaths {
		var flags bpf.BackendFlags
		if d == l.datapath {
			flags = bpf.BackendLocalPod
		}
		var table []bpf.Backend
		for i := range 31 {
			server := servers[i%3]
			table = append(table, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: flags})
		}
		for _, protocol := range []bpf.Protocol{bpf.ProtocolTCP, bpf.ProtocolUDP} {
			f := bpf.Frontend{Addr: service, Port: 80, Protocol: protocol, Scope: bpf.ScopeExternal}
			publish(t, d, f, first, table...)
			if err := d.SetFrontend(f, bpf.Range{First: first, Count: 31, Generation: 2, Maglev: true, Direct: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// dialOutside connects from the lab's client.
func (l *lab) dialOutside(t *testing.T, network, service string) (conn net.Conn) {
	t.Helper()
	within(t, l.outside, func() error {
		var err error
		conn, err = (&net.Dialer{Timeout: 3 * time.Second}).Dial(network, net.JoinHostPort(service, "80"))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

func drops(t *testing.T, d *bpf.Datapath) map[string]uint64 {
	t.Helper()
	all, err := d.Drops()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for reason, n := range all {
		if n > 0 {
			out[reason.String()] = n
		}
	}
	return out
}

// A datagram that has no room for the option is passed on as without it when it is
// the first, and without the option when the backend's node knows the flow.
func TestRootDirectWithoutRoom(t *testing.T) {
	l := newLab(t)
	b := l.addBalancer(t, 1, false)
	l.leadTo(t, 1)
	for family, a := range dsrAddrs {
		service := netip.MustParseAddr(a.service)
		l.publishDirect(t, family, service, b.datapath, l.datapath)
		full, outside, balancer := 1472, labAddrs[family].outside, fmt.Sprintf(a.toNode, 1)
		if service.Is6() {
			full = 1452
		}
		for _, tt := range []struct {
			sizes []int
			from  string
		}{{[]int{full, 10, full}, balancer}, {[]int{full - 23, 10}, balancer}, {[]int{10, full, 10}, outside}, {[]int{full - 24, full}, outside}} {
			if service.Is4() {
				// The option of IPv4 is shorter.
				tt.sizes[0] = min(tt.sizes[0]+16, full)
			}
			conn := l.dialOutside(t, "udp", a.service)
			for _, size := range tt.sizes {
				if _, client, err := say(conn, size); err != nil || client != tt.from {
					t.Errorf("%s, %d of %v bytes: the server sees %q, %v, expected %s; drops at the balancer %v", family, size, tt.sizes, client, err, tt.from, drops(t, b.datapath))
				}
			}
		}
	}
}
