// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
	"slipway.dev/slipway/test/machine"
)

// Names and addresses of another host and of the wire to it.
const (
	outsideName = "e2e-outside"
	nodeEnd     = "e2e-wire"
	outsideEnd  = "wire"
)

var (
	nodeWire    = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("fd00:51:100::1")}
	outsideWire = []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("fd00:51:100::2")}
	// hidden stand for the node's addresses, see outside.hide.
	hidden = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("fd00:113::1")}
)

// outside is another host: a network namespace on a wire to the node, with
// the node as its router.
type outside struct {
	*cluster
}

// newOutside makes the other host; it goes when the test ends.
func newOutside(t *testing.T, c *cluster) *outside {
	t.Helper()
	o := &outside{c}
	restoreNamed(t)
	o.tool(t, "ip", "netns", "add", outsideName)
	t.Cleanup(func() {
		o.tool(t, "ip", "netns", "delete", outsideName)
		// The kernel removes the wire a moment after the namespace.
		within(t, 10*time.Second, func() error {
			out, err := exec.Command("ip", "-o", "link", "show", nodeEnd).CombinedOutput()
			if err == nil {
				return errStillThere(out)
			}
			return nil
		})
	})
	o.tool(t, "ip", "link", "add", nodeEnd, "type", "veth", "peer", "name", outsideEnd, "netns", outsideName)
	for i, length := range []string{"/24", "/64"} {
		// No duplicate address detection: the address is usable at once.
		o.tool(t, "ip", "address", "add", nodeWire[i].String()+length, "dev", nodeEnd, "nodad")
		o.inside(t, "ip", "address", "add", outsideWire[i].String()+length, "dev", outsideEnd, "nodad")
	}
	o.tool(t, "ip", "link", "set", nodeEnd, "up")
	o.inside(t, "ip", "link", "set", "lo", "up")
	o.inside(t, "ip", "link", "set", outsideEnd, "up")
	o.inside(t, "ip", "-4", "route", "add", "default", "via", nodeWire[0].String())
	o.inside(t, "ip", "-6", "route", "add", "default", "via", nodeWire[1].String())
	return o
}

// named is where ip(8) keeps the names of namespaces; the first name makes a
// mount of it that stays.
const named = "/run/netns"

// restoreNamed takes that mount back when the test ends, if there was none.
func restoreNamed(t *testing.T) {
	t.Helper()
	mounted := func() bool {
		return slices.ContainsFunc(snapshot(t)[machine.Mounts], func(line string) bool { return strings.HasPrefix(line, named+" ") })
	}
	directory := exists(named)
	if mounted() {
		return
	}
	t.Cleanup(func() {
		for mounted() {
			if err := syscall.Unmount(named, syscall.MNT_DETACH); err != nil {
				t.Fatalf("unmount %s: %v", named, err)
			}
		}
		if !directory {
			// Not if somebody else has put something there meanwhile.
			_ = os.Remove(named)
		}
	})
}

type errStillThere []byte

func (e errStillThere) Error() string { return "still there: " + string(e) }

func (o *outside) tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inside runs a command on the other host.
func (o *outside) inside(t testing.TB, args ...string) string {
	t.Helper()
	return o.tool(t, "ip", append([]string{"netns", "exec", outsideName}, args...)...)
}

// ask asks targets from the other host.
func (o *outside) ask(t testing.TB, n int, targets ...talk.Target) []talk.Answers {
	t.Helper()
	return decode(t, o.inside(t, append([]string{o.app}, askArgs(n, targets)...)...))
}

// hide gives addresses other names on the outside, and returns those. All
// processes of this machine share its cgroups, so the node's socket programs
// see those of the other host too. A program there uses the other name, and
// its own firewall turns that into the address when the packet leaves: the
// node meets it on the wire first, as from a real host.
func (o *outside) hide(t testing.TB, addrs []netip.Addr) []netip.Addr {
	t.Helper()
	o.inside(t, "nft", "add table inet hide; add chain inet hide out { type nat hook output priority -100; }")
	var out []netip.Addr
	for _, addr := range addrs {
		family, alias := "ip", hidden[0]
		if addr.Is6() {
			family, alias = "ip6", hidden[1]
		}
		o.inside(t, "nft", "add rule inet hide out "+family+" daddr "+alias.String()+" dnat "+family+" to "+addr.String())
		out = append(out, alias)
	}
	return out
}

// serve runs the application on the other host.
func (o *outside) serve(t *testing.T) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", outsideName, o.app, "serve", "-name", "outside")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the server outside says %q: %v", line, err)
	}
}
