// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// inNamespace puts the test into a network namespace of its own, with one
// uplink. The thread is thrown away with it.
func inNamespace(t *testing.T) int {
	t.Helper()
	roottest.Require(t)
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up0", "up1"} {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	roottest.AddAddrs(t, ns, "up0", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"))
	return link.Attrs().Index
}

func TestRootApply(t *testing.T) {
	link := inNamespace(t)
	route := func(dst, via string) Route {
		return Route{netip.MustParsePrefix(dst), netip.MustParseAddr(via), link}
	}
	for _, step := range []struct {
		name string
		want []Route
	}{
		{"first", []Route{route("10.0.1.0/24", "192.0.2.2"), route("fd00:0:0:1::/64", "2001:db8::2")}},
		{"again", []Route{route("10.0.1.0/24", "192.0.2.2"), route("fd00:0:0:1::/64", "2001:db8::2")}},
		{"another way", []Route{route("10.0.1.0/24", "192.0.2.3"), route("fd00:0:0:1::/64", "2001:db8::2")}},
		{"one less, one more", []Route{route("10.0.1.0/24", "192.0.2.3"), route("10.0.2.0/24", "192.0.2.4")}},
		{"none", nil},
	} {
		if err := Apply(step.want); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		have, err := current()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, have, cmp.Comparer(func(a, b Route) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}
