// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
)

// flow is a UDP socket of another host that keeps its port.
type flow struct{ net.Conn }

func openFlow(t *testing.T, ns netns.NsHandle, to netip.AddrPort) flow {
	t.Helper()
	return openFlowFrom(t, ns, 0, to)
}

func openFlowFrom(t *testing.T, ns netns.NsHandle, port int, to netip.AddrPort) flow {
	t.Helper()
	var f flow
	within(t, ns, func() (err error) {
		f.Conn, err = net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(to))
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f
}

func (f flow) wants(t *testing.T, want string) {
	t.Helper()
	if _, err := f.Write([]byte("who")); err != nil {
		t.Fatal(err)
	}
	f.hears(t, want)
}

func (f flow) hears(t *testing.T, want string) {
	t.Helper()
	if err := f.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := f.Read(buf)
	if got := string(buf[:n]); got != want || err != nil {
		t.Errorf("got %q, expected %q (%v)", got, want, err)
	}
}

// A late answer still comes from the Service, after its flow was forgotten.
func TestRootForgetStaleAnswers(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first := uint32(4000)
	for family, a := range labAddrs {
		for name, at := range map[string]struct {
			ns    netns.NsHandle
			host  string
			flags bpf.BackendFlags
		}{"pod": {l.pod, a.pod, bpf.BackendLocalPod}, "another node's": {peer, peerAddrs[family].pod, 0}} {
			t.Run(fmt.Sprint(family, " ", name), func(t *testing.T) {
				first += 8
				var server net.PacketConn
				within(t, at.ns, func() (err error) {
					server, err = net.ListenPacket("udp", net.JoinHostPort(at.host, "0"))
					return err
				})
				defer server.Close()
				backend := netip.MustParseAddrPort(server.LocalAddr().String())
				frontend := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: uint16(30000 + first), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
				publish(t, l.datapath, frontend, first, bpf.Backend{Addr: backend.Addr(), Port: backend.Port(), Flags: at.flags})
				client := openFlow(t, l.outside, netip.AddrPortFrom(frontend.Addr, frontend.Port))
				if _, err := client.Write([]byte("who")); err != nil {
					t.Fatal(err)
				}
				_, from, err := server.ReadFrom(make([]byte, 64))
				if err != nil {
					t.Fatal(err)
				}
				if n, err := l.datapath.ForgetStale(func(u bpf.Use) bool { return u.Backend == backend }); n != 1 || err != nil {
					t.Errorf("%d flows forgotten (%v)", n, err)
				}
				if _, err := server.WriteTo([]byte("late"), from); err != nil {
					t.Fatal(err)
				}
				client.hears(t, "late")
			})
		}
	}
}

// TestRootForgetStale has flows of another host whose backend goes. They get
// another one, those of another Service stay.
func TestRootForgetStale(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first := uint32(3000)
	for family, a := range labAddrs {
		host := serveIn(t, l.node, a.node, "host network")
		for name, at := range map[string]struct {
			ns    netns.NsHandle
			host  string
			flags bpf.BackendFlags
		}{"pod": {l.pod, a.pod, bpf.BackendLocalPod}, "another node's": {peer, peerAddrs[family].pod, 0}} {
			t.Run(fmt.Sprint(family, " ", name), func(t *testing.T) {
				first += 8
				server := serveIn(t, at.ns, at.host, name)
				gone := bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: at.flags}
				frontend := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: uint16(30000 + first), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
				other := frontend
				other.Port++
				publish(t, l.datapath, frontend, first, gone)
				publish(t, l.datapath, other, first+2, gone)
				ours := openFlow(t, l.outside, netip.AddrPortFrom(frontend.Addr, frontend.Port))
				others := openFlow(t, l.outside, netip.AddrPortFrom(other.Addr, other.Port))
				ours.wants(t, name)
				others.wants(t, name)
				next := bpf.Backend{Addr: host.Addr(), Port: host.Port(), Flags: bpf.BackendLocalHost}
				publish(t, l.datapath, frontend, first, next)
				publish(t, l.datapath, other, first+2, next)
				use := bpf.Use{Service: netip.AddrPortFrom(frontend.Addr, frontend.Port), Backend: server, Protocol: bpf.ProtocolUDP}
				for want := 1; want >= 0; want-- {
					if n, err := l.datapath.ForgetStale(func(u bpf.Use) bool { return u == use }); n != want || err != nil {
						t.Errorf("%d flows forgotten, expected %d (%v)", n, want, err)
					}
				}
				ours.wants(t, "host network")
				others.wants(t, name)
			})
		}
	}
}

// TestRootFlowsAge has a client use its port again for datagrams: after a while
// to another Service, whose only backend is the same, and after a long pause when
// the backend is another one.
func TestRootFlowsAge(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		t.Run(family, func(t *testing.T) {
			server, host := serveIn(t, l.pod, a.pod, "pod"), serveIn(t, l.node, a.node, "host network")
			pod := bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: bpf.BackendLocalPod}
			one := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
			two := one
			two.Port++
			publish(t, l.datapath, one, 0, pod)
			publish(t, l.datapath, two, 4, pod)
			ask := func(f bpf.Frontend, want string) {
				t.Helper()
				flow := openFlowFrom(t, l.outside, 50100, netip.AddrPortFrom(f.Addr, f.Port))
				defer flow.Close()
				flow.wants(t, want)
			}
			for range 2 {
				ask(one, "pod")
				age(t, l.datapath, 11*time.Second)
				ask(two, "pod")
				age(t, l.datapath, 11*time.Second)
			}
			publish(t, l.datapath, two, 4, bpf.Backend{Addr: host.Addr(), Port: host.Port(), Flags: bpf.BackendLocalHost})
			ask(two, "pod")
			age(t, l.datapath, 121*time.Second)
			ask(two, "host network")
		})
	}
}

func age(t *testing.T, d *bpf.Datapath, by time.Duration) {
	t.Helper()
	if err := d.Age(by); err != nil {
		t.Fatal(err)
	}
}
