// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// reset and vanish are how a client ends a connection so that its port is free
// again: vanish tells nobody.
func reset(conn *net.TCPConn) error { return conn.SetLinger(0) }

func vanish(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_REPAIR, 1)
	})
	return errors.Join(controlErr, err)
}

// askAgain connects from a port of its own choice, and ends the connection when it
// has its answer.
func askAgain(t *testing.T, ns netns.NsHandle, port int, to netip.AddrPort, end func(*net.TCPConn) error) string {
	t.Helper()
	var out string
	within(t, ns, func() error {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 3 * time.Second}
		conn, err := dialer.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("who")); err != nil {
			return err
		}
		buf := make([]byte, 64)
		n, err := conn.Read(buf)
		out = string(buf[:n])
		return errors.Join(err, end(conn.(*net.TCPConn)))
	})
	return out
}

// everywhere are backends in a pod, on the node and on another node, by name.
func (l *lab) everywhere(t *testing.T, peer netns.NsHandle, family string) map[string]bpf.Backend {
	t.Helper()
	backends, a := map[string]bpf.Backend{}, labAddrs[family]
	for name, at := range map[string]struct {
		ns    netns.NsHandle
		host  string
		flags bpf.BackendFlags
	}{
		"pod":            {l.pod, a.pod, bpf.BackendLocalPod},
		"host network":   {l.node, a.node, bpf.BackendLocalHost},
		"another node's": {peer, peerAddrs[family].pod, 0},
	} {
		server := serveIn(t, at.ns, at.host, name)
		backends[name] = bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: at.flags}
	}
	return backends
}

// TestRootPortAgain has a client use its port again. It gets a backend that the
// Service has then, and is in nobody's way by what it did before.
func TestRootPortAgain(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first, port := uint32(2000), 50000
	for family, a := range labAddrs {
		backends := l.everywhere(t, peer, family)
		for before, from := range backends {
			for after, to := range backends {
				t.Run(fmt.Sprint(family, " ", before, " then ", after), func(t *testing.T) {
					first, port = first+4, port+1
					service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
					other := netip.AddrPortFrom(service.Addr(), service.Port()+1)
					frontend := bpf.Frontend{Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
					publish(t, l.datapath, frontend, first, from)
					if got := askAgain(t, l.outside, port, service, reset); got != before {
						t.Fatalf("first: got %q, expected %q", got, before)
					}
					publish(t, l.datapath, frontend, first, to)
					if got := askAgain(t, l.outside, port, service, reset); got != after {
						t.Errorf("after the change: got %q, expected %q", got, after)
					}
					frontend.Port = other.Port()
					publish(t, l.datapath, frontend, first+2, to)
					if got := askAgain(t, l.outside, port, other, reset); got != after {
						t.Errorf("another Service: got %q, expected %q", got, after)
					}
				})
			}
		}
	}
}

// TestRootPortAgainAfterPause has a client that is gone without a word. Who has its
// port after a long pause gets a backend that the Service has then.
func TestRootPortAgainAfterPause(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		t.Run(family, func(t *testing.T) {
			pod, host := serveIn(t, l.pod, a.pod, "pod"), serveIn(t, l.node, a.node, "host network")
			frontend := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
			service := netip.AddrPortFrom(frontend.Addr, frontend.Port)
			publish(t, l.datapath, frontend, 0, bpf.Backend{Addr: pod.Addr(), Port: pod.Port(), Flags: bpf.BackendLocalPod})
			if got := askAgain(t, l.outside, 50100, service, vanish); got != "pod" {
				t.Fatalf("first: got %q", got)
			}
			publish(t, l.datapath, frontend, 0, bpf.Backend{Addr: host.Addr(), Port: host.Port(), Flags: bpf.BackendLocalHost})
			age(t, l.datapath, 121*time.Second)
			if got := askAgain(t, l.outside, 50100, service, reset); got != "host network" {
				t.Errorf("after a pause: got %q", got)
			}
		})
	}
}

// TestRootDirectAfterService has a client use its port again straight to the
// backend that a Service had led it to.
func TestRootDirectAfterService(t *testing.T) {
	l := newLab(t)
	for family, a := range labAddrs {
		within(t, l.outside, func() error {
			pod := netip.MustParseAddr(a.pod)
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(pod, pod.BitLen()), Gw: net.ParseIP(a.node)})
		})
		for name, server := range map[string]netip.AddrPort{
			"pod": serveIn(t, l.pod, a.pod, "pod"), "host network": serveIn(t, l.node, a.node, "host network"),
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				flags := map[string]bpf.BackendFlags{"pod": bpf.BackendLocalPod, "host network": bpf.BackendLocalHost}[name]
				frontend := bpf.Frontend{Addr: netip.MustParseAddr(a.node), Port: 30001, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
				publish(t, l.datapath, frontend, 0, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: flags})
				for i, to := range []netip.AddrPort{netip.AddrPortFrom(frontend.Addr, frontend.Port), server, server} {
					if got := askAgain(t, l.outside, 50200, to, reset); got != name {
						t.Errorf("connection %d, to %s: got %q", i, to, got)
					}
				}
			})
		}
	}
}
