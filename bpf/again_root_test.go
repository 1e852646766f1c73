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

// askAgain connects from a port of its own choice, and resets the connection
// when it has its answer, so that the port is free again.
func askAgain(t *testing.T, ns netns.NsHandle, port int, to netip.AddrPort) string {
	t.Helper()
	var out string
	within(t, ns, func() error {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 3 * time.Second}
		conn, err := dialer.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("who")); err != nil {
			return err
		}
		buf := make([]byte, 64)
		n, err := conn.Read(buf)
		out = string(buf[:n])
		return err
	})
	return out
}

// TestRootPortAgain has a client use its port again. It gets a backend that the
// Service has then, and is in nobody's way by what it did before.
func TestRootPortAgain(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first, port := uint32(2000), 50000
	for family, a := range labAddrs {
		backends := map[string]bpf.Backend{}
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
		for before, from := range backends {
			for after, to := range backends {
				t.Run(fmt.Sprint(family, " ", before, " then ", after), func(t *testing.T) {
					first, port = first+4, port+1
					service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
					other := netip.AddrPortFrom(service.Addr(), service.Port()+1)
					frontend := bpf.Frontend{Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
					publish(t, l.datapath, frontend, first, from)
					if got := askAgain(t, l.outside, port, service); got != before {
						t.Fatalf("first: got %q, expected %q", got, before)
					}
					publish(t, l.datapath, frontend, first, to)
					if got := askAgain(t, l.outside, port, service); got != after {
						t.Errorf("after the change: got %q, expected %q", got, after)
					}
					frontend.Port = other.Port()
					publish(t, l.datapath, frontend, first+2, to)
					if got := askAgain(t, l.outside, port, other); got != after {
						t.Errorf("another Service: got %q, expected %q", got, after)
					}
				})
			}
		}
	}
}
