// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/roottest"
)

func TestRootPodToPod(t *testing.T) {
	l := newLab(t)
	l.start()
	a, b := l.addPod("a"), l.addPod("b")
	for i, addr := range b.addrs {
		ping(t, a.ns, addr)
		if seen := connect(t, a.ns, b.ns, addr); seen != a.addrs[i] {
			t.Errorf("pod saw %s, want the pod address %s", seen, a.addrs[i])
		}
		// A pod reaches itself, and its node at the gateway address.
		connect(t, b.ns, b.ns, addr)
	}
	for _, gateway := range addrs("10.244.1.1", "fd00:244:1::1") {
		ping(t, a.ns, gateway)
	}
	for name, ns := range map[string]netns.NsHandle{"pod a": a.ns, "pod b": b.ns} {
		if diff := cmp.Diff([]string(nil), learned(t, ns, "eth0")); diff != "" {
			t.Errorf("%s learned neighbours (-want +got):\n%s", name, diff)
		}
	}
	for _, name := range l.podInterfaces() {
		if diff := cmp.Diff([]string(nil), learned(t, l.node, name)); diff != "" {
			t.Errorf("node learned neighbours on %s (-want +got):\n%s", name, diff)
		}
	}
}

// learned returns the neighbours of a device that are not permanent, and its
// link-local addresses: what ARP or neighbour discovery would need.
func learned(t *testing.T, ns netns.NsHandle, device string) []string {
	t.Helper()
	var found []string
	roottest.In(t, ns, func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		neighs, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, n := range neighs {
			if n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
				found = append(found, n.IP.String())
			}
		}
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		for _, addr := range list {
			if addr.IP.IsLinkLocalUnicast() {
				found = append(found, addr.IP.String())
			}
		}
		return err
	})
	return found
}

func TestRootHostToPod(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	gateways := addrs("10.244.1.1", "fd00:244:1::1")
	for i, addr := range p.addrs {
		ping(t, l.node, addr)
		if seen := connect(t, l.node, p.ns, addr); seen != gateways[i] {
			t.Errorf("pod saw %s, want the gateway %s", seen, gateways[i])
		}
	}
	for i, addr := range nodeAddrs {
		if seen := connect(t, p.ns, l.node, addr); seen != p.addrs[i] {
			t.Errorf("node saw %s, want the pod address %s", seen, p.addrs[i])
		}
	}
}

func TestRootMasquerade(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	for i, addr := range outsideAddrs {
		ping(t, p.ns, addr)
		if seen := connect(t, p.ns, l.outside, addr); seen != nodeAddrs[i] {
			t.Errorf("outside saw %s, want the node's %s", seen, nodeAddrs[i])
		}
	}
	// Within the cluster the pod's address stays: let the outside be a node
	// with a pod of its own.
	other := addrs("10.244.7.7", "fd00:244:7::7")
	l.routeOtherNode(other)
	for i, addr := range other {
		if seen := connect(t, p.ns, l.outside, addr); seen != p.addrs[i] {
			t.Errorf("other node saw %s, want the pod address %s", seen, p.addrs[i])
		}
	}
}

func TestRootNoMasquerade(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	l.stop()
	l.cfg.NoMasquerade = true
	l.start()
	l.routeOtherNode(nil)
	for i, addr := range outsideAddrs {
		if seen := connect(t, p.ns, l.outside, addr); seen != p.addrs[i] {
			t.Errorf("outside saw %s, want the pod address %s", seen, p.addrs[i])
		}
	}
}

func TestRootSingleStack(t *testing.T) {
	for _, cidr := range []string{"10.244.1.0/24", "fd00:244:1::/64"} {
		t.Run(cidr, func(t *testing.T) {
			l := newLab(t)
			l.cfg.PodCIDRs, l.cfg.ClusterCIDRs = prefixes(cidr), nil
			l.start()
			a, b := l.newPod("a"), l.newPod("b")
			// Some runtimes turn IPv6 off in the pod.
			for _, p := range []*pod{a, b} {
				roottest.In(t, p.ns, func() error {
					return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
				})
				if err := l.add(p); err != nil || len(p.addrs) != 1 {
					t.Fatalf("add: %v, addresses %v", err, p.addrs)
				}
			}
			connect(t, a.ns, b.ns, b.addrs[0])
			connect(t, l.node, b.ns, b.addrs[0])
			l.restart()
			connect(t, a.ns, b.ns, b.addrs[0])
			if _, err := l.call(l.request(socket.Check, a)); err != nil {
				t.Errorf("check: %v", err)
			}
		})
	}
}

func TestRootHostSpeaksFromItsOwnAddress(t *testing.T) {
	l := newLab(t)
	l.cfg.NodeAddrs = nodeAddrs
	l.start()
	p := l.addPod("a")
	for i, addr := range p.addrs {
		if seen := connect(t, l.node, p.ns, addr); seen != nodeAddrs[i] {
			t.Errorf("pod saw %s, want the node's address %s", seen, nodeAddrs[i])
		}
	}
}
