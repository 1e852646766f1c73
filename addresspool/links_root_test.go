// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// lan is a switch with hosts, each a network namespace. Host n has the
// addresses 192.0.2.n and 2001:db8::n.
func lan(t *testing.T, hosts int) []netns.NsHandle {
	t.Helper()
	ether := roottest.NetNS(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	roottest.In(t, ether, func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan"}}
		return firstError(netlink.LinkAdd(bridge), netlink.LinkSetUp(bridge))
	})
	var out []netns.NsHandle
	for n := 1; n <= hosts; n++ {
		host := roottest.NetNS(t)
		out = append(out, host)
		roottest.In(t, ether, func() error {
			port := fmt.Sprintf("port%d", n)
			err := netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(host)),
			})
			must(err)
			link, err := netlink.LinkByName(port)
			must(err)
			bridge, err := netlink.LinkByName("lan")
			must(err)
			return firstError(netlink.LinkSetMaster(link, bridge), netlink.LinkSetUp(link))
		})
		roottest.In(t, host, func() error {
			link, err := netlink.LinkByName("eth0")
			must(err)
			lo, err := netlink.LinkByName("lo")
			must(err)
			return firstError(netlink.LinkSetUp(lo), netlink.LinkSetUp(link))
		})
		roottest.AddAddrs(t, host, "eth0",
			netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", n)), netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", n)))
		roottest.WaitRunning(t, host, "eth0")
	}
	return out
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// answer serves name on a port of all addresses of a host.
func answer(t *testing.T, host netns.NsHandle, name string) {
	t.Helper()
	var l net.Listener
	roottest.In(t, host, func() (err error) {
		l, err = net.Listen("tcp", "[::]:80")
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte(name))
			conn.Close()
		}
	}()
}

// ask returns who answers at an address.
func ask(host netns.NsHandle, t *testing.T, addr netip.Addr) (name string, err error) {
	roottest.In(t, host, func() error {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(addr, 80).String(), time.Second); err != nil {
			return nil
		}
		defer conn.Close()
		var all []byte
		all, err = io.ReadAll(conn)
		name = string(all)
		return nil
	})
	return name, err
}

// An address that moves from one host to another is at once reached there: its
// neighbours are told, and need not wait until what they know expires.
func TestRootAddressMoves(t *testing.T) {
	hosts := lan(t, 3)
	client := hosts[2]
	answer(t, hosts[0], "one")
	answer(t, hosts[1], "two")
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8::100")}
	for round, owner := range []int{0, 1, 0} {
		for i, host := range hosts[:2] {
			roottest.In(t, host, func() error {
				a, links := testAnnouncer(t), mustUplinks(t)
				want := map[netip.Addr]int{}
				if i == owner {
					want[vips[0]], want[vips[1]] = choose(links, vips[0]), choose(links, vips[1])
				}
				return a.apply(links, want)
			})
		}
		for _, vip := range vips {
			within(t, func() error {
				name, err := ask(client, t, vip)
				if want := []string{"one", "two"}[owner]; err != nil || name != want {
					return fmt.Errorf("round %d: %s answers %q, %v, expected %s", round, vip, name, err, want)
				}
				return nil
			})
		}
	}
	roottest.In(t, hosts[0], func() error {
		if have, err := Addresses(); err != nil || len(have) != 2 {
			t.Errorf("host one announces %v, %v", have, err)
		}
		// Its own addresses are not taken for ours.
		if err := Clean(); err != nil {
			t.Error(err)
		}
		links := mustUplinks(t)
		if len(links) != 1 || len(links[0].subnets) < 2 || len(links[0].ours) != 0 {
			t.Errorf("after Clean: %+v", links)
		}
		return nil
	})
}

func mustUplinks(t *testing.T) []uplink {
	t.Helper()
	links, err := uplinks()
	if err != nil {
		t.Fatal(err)
	}
	return links
}
