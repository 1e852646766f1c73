// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// putBack is how long it may take until rules are in place again.
const putBack = 10 * time.Second

// lab is a node that forwards between a pod, the outside, and a container of
// somebody else, each a network namespace.
type lab struct {
	t             *testing.T
	node          netns.NsHandle
	pod, out, alo *peer
}

// peer is a namespace that the node has a link to.
type peer struct {
	ns    netns.NsHandle
	addrs []netip.Addr
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, node: roottest.NetNS(t)}
	roottest.In(t, l.node, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
		)
	})
	l.pod = l.link("slw0a1b2c3d", 1)
	l.out = l.link("uplink", 2)
	l.alo = l.link("docker7", 3)
	return l
}

// link makes a namespace whose default route leads to the node.
func (l *lab) link(device string, number int) *peer {
	l.t.Helper()
	p := &peer{ns: roottest.NetNS(l.t), addrs: []netip.Addr{
		netip.MustParseAddr(fmt.Sprintf("10.244.%d.2", number)), netip.MustParseAddr(fmt.Sprintf("fd00:244:%d::2", number)),
	}}
	gateways := []netip.Addr{p.addrs[0].Prev(), p.addrs[1].Prev()}
	roottest.In(l.t, l.node, func() error {
		veth := netlink.NewVeth(netlink.NewLinkAttrs())
		veth.Name, veth.PeerName, veth.PeerNamespace = device, "eth0", netlink.NsFd(p.ns)
		return errors.Join(netlink.LinkAdd(veth), setUp(device, gateways, nil))
	})
	roottest.In(l.t, p.ns, func() error { return setUp("eth0", p.addrs, gateways) })
	roottest.WaitRunning(l.t, l.node, device)
	roottest.WaitRunning(l.t, p.ns, "eth0")
	roottest.WaitLocal(l.t, l.node, gateways...)
	roottest.WaitLocal(l.t, p.ns, p.addrs...)
	return p
}

func setUp(device string, own, gateways []netip.Addr) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	errs := []error{netlink.LinkSetUp(link)}
	for _, addr := range own {
		bits := 24
		if addr.Is6() {
			bits = 64
		}
		mask := net.CIDRMask(bits, addr.BitLen())
		errs = append(errs, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: mask}, Flags: 2})) // IFA_F_NODAD
	}
	for _, gateway := range gateways {
		all := &net.IPNet{IP: make(net.IP, gateway.BitLen()/8), Mask: net.CIDRMask(0, gateway.BitLen())}
		errs = append(errs, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: gateway.AsSlice()}))
	}
	return errors.Join(errs...)
}

// run runs a script of sh on the node and returns what it prints.
func (l *lab) run(script string) string {
	l.t.Helper()
	var out []byte
	roottest.In(l.t, l.node, func() error {
		var err error
		cmd := exec.Command("sh", "-ec", script)
		cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return string(out)
}

// rules are all of the node, without what they have counted.
func (l *lab) rules() string {
	l.t.Helper()
	text := l.run(`nft -s list ruleset
		! grep -qs . /proc/thread-self/net/ip_tables_names || iptables-legacy-save
		! grep -qs . /proc/thread-self/net/ip6_tables_names || ip6tables-legacy-save`)
	text = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(text, "")
}

// reaches returns an error unless TCP connections get through, in both families.
func (l *lab) reaches(from, to *peer, timeout time.Duration) error {
	l.t.Helper()
	var errs []error
	for _, addr := range to.addrs {
		errs = append(errs, l.dial(from, to, addr, timeout))
	}
	return errors.Join(errs...)
}

func (l *lab) dial(from, to *peer, addr netip.Addr, timeout time.Duration) error {
	l.t.Helper()
	var listener net.Listener
	roottest.In(l.t, to.ns, func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	defer listener.Close()
	var failed error
	roottest.In(l.t, from.ns, func() error {
		conn, err := (&net.Dialer{Timeout: timeout}).Dial("tcp", listener.Addr().String())
		if failed = err; err == nil {
			conn.Close()
		}
		return nil
	})
	return failed
}

// refused makes sure that no family gets through.
func (l *lab) refused(what string, from, to *peer) {
	l.t.Helper()
	for _, addr := range to.addrs {
		if l.dial(from, to, addr, 200*time.Millisecond) == nil {
			l.t.Errorf("%s: %s can be reached, want its packets dropped", what, addr)
		}
	}
}

// connected waits until pods and the outside reach each other.
func (l *lab) connected(what string) {
	l.t.Helper()
	roottest.Eventually(l.t, putBack, func() error {
		if err := errors.Join(l.reaches(l.pod, l.out, time.Second), l.reaches(l.out, l.pod, time.Second)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

func (l *lab) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(l.node)) }

// keep runs a Keeper until the returned function is called, or the test ends.
func (l *lab) keep() (*Keeper, func()) {
	l.t.Helper()
	k := New(Config{Interfaces: []string{"slw+", "slipway0"}, NetNS: l.path(), Log: slog.New(slog.NewTextHandler(logWriter{l.t}, nil))})
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
	}
	l.t.Cleanup(stop)
	return k, stop
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}
