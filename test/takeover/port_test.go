// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/roottest"
)

// TestRootTakeOverSamePort has a connection of a pod that netfilter translates, and
// then one straight to the same backend from the same port.
func TestRootTakeOverSamePort(t *testing.T) {
	roottest.Require(t)
	s := newSite(t)
	nftRules(t, s.lab)
	type known struct {
		to   target
		conn net.Conn
		by   string
	}
	var flows []known
	for i, to := range targets(s.services()[:1], true) {
		conn := s.dial(t, to.Network, 7000+i, to.Address)
		by, err := ask(conn, 1)
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, known{to, conn, by})
	}
	s.begin(t)
	for _, a := range flows {
		backend := map[string]*place{"first": s.first, "second": s.second}[a.by]
		local := netip.MustParseAddrPort(a.conn.LocalAddr().String())
		addr := backend.v4
		if local.Addr().Is6() {
			addr = backend.v6
		}
		b := s.dial(t, a.to.Network, int(local.Port()), net.JoinHostPort(addr, fmt.Sprint(podPort)))
		for n := range 5 {
			for what, conn := range map[string]net.Conn{"kept": a.conn, "new": b} {
				if by, err := ask(conn, 10+n); err != nil || by != a.by {
					t.Errorf("%s, %s: %s answers (%v), expected %s", a.to.Name, what, by, err, a.by)
				}
			}
		}
	}
}

// dial connects from the client pod, from a port that may be in use.
func (s *site) dial(t *testing.T, network string, port int, to string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		if err == nil {
			err = controlErr
		}
		return err
	}}
	host := net.IPv4zero
	if netip.MustParseAddrPort(to).Addr().Is6() {
		host = net.IPv6unspecified
	}
	d.LocalAddr = &net.TCPAddr{IP: host, Port: port}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: host, Port: port}
	}
	var conn net.Conn
	roottest.In(t, s.client.ns, func() (err error) {
		conn, err = d.Dial(network, to)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}
