// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// TestRootNobodysAddress has another host take connections to any address, as some
// routers do. It gets none to addresses that only Services have.
func TestRootNobodysAddress(t *testing.T) {
	l := newLab(t)
	for family, tt := range map[string]struct{ addr, services, near string }{
		"IPv4": {"10.96.3.7", "10.96.0.0/16", "10.96.0.0/24"},
		"IPv6": {"fd00:96::3:7", "fd00:96::/108", "fd00:96::/120"},
	} {
		addr, a := netip.MustParseAddr(tt.addr), labAddrs[family]
		within(t, l.node, func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(addr, addr.BitLen()), Gw: net.ParseIP(a.outside)})
		})
		within(t, l.outside, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(addr, addr.BitLen()), Flags: 0x02})
		})
		roottest.WaitLocal(t, l.outside, addr)
		server := serveIn(t, l.outside, tt.addr, "somebody")
		wantAnswers := func(wanted bool) {
			t.Helper()
			for _, kind := range []string{"tcp", "udp"} {
				within(t, l.node, func() error {
					if !wanted {
						if err := askSoon(kind, server); err == nil {
							t.Errorf("%s %s: got an answer, expected none", family, kind)
						}
						return nil
					}
					roottest.Eventually(t, 10*time.Second, func() error { return askSoon(kind, server) })
					return nil
				})
			}
		}
		wantAnswers(true)
		for ranges, served := range map[string]bool{tt.near: true, tt.services: false} {
			set := []netip.Prefix{netip.MustParsePrefix(ranges)}
			if err := l.datapath.SetSources(bpf.ServiceRanges, set); err != nil {
				t.Fatal(err)
			}
			wantAnswers(served)
			if err := l.datapath.DeleteSources(bpf.ServiceRanges, set); err != nil {
				t.Fatal(err)
			}
		}
		wantAnswers(true)
	}
	wantDrop(t, l.datapath, "no_endpoint")
}

// askSoon asks once, and returns an error when there is no answer soon.
func askSoon(network string, server netip.AddrPort) error {
	const soon = 300 * time.Millisecond
	conn, err := net.DialTimeout(network, server.String(), soon)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(soon))
	if err == nil {
		_, err = conn.Write([]byte("who"))
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 64))
	}
	return err
}
