// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Link is an interface of this node with the networks that are on it.
type Link struct {
	Index    int
	Prefixes []netip.Prefix
}

// Route leads to the pods of another node.
type Route struct {
	Dst  netip.Prefix
	Via  netip.Addr
	Link int
}

// Compile returns the routes to the pods of all nodes but this one, in order,
// and a line for each range that no route can lead to.
func Compile(nodes []*corev1.Node, self string, links []Link) (routes []Route, problems []string) {
	owner := map[netip.Prefix]string{}
	for _, node := range sorted(nodes) {
		for _, text := range node.Spec.PodCIDRs {
			cidr, err := netip.ParsePrefix(text)
			if err != nil {
				problems = append(problems, fmt.Sprintf("node %s: spec.podCIDRs %q: expected a range like 10.244.1.0/24", node.Name, text))
				continue
			}
			if other, taken := owner[cidr.Masked()]; taken {
				problems = append(problems, fmt.Sprintf("node %s: pod range %s is node %s's already", node.Name, cidr, other))
				continue
			}
			owner[cidr.Masked()] = node.Name
			if node.Name == self {
				continue
			}
			route, ok := routeTo(cidr.Masked(), internalIPs(node), links)
			if !ok {
				problems = append(problems, fmt.Sprintf("node %s: its addresses %v are on no network of this node, its pods %s cannot be reached", node.Name, internalIPs(node), cidr))
				continue
			}
			routes = append(routes, route)
		}
	}
	return routes, problems
}

// sorted puts the nodes that were there first in front: they keep what a
// newer one claims too.
func sorted(nodes []*corev1.Node) []*corev1.Node {
	return slices.SortedFunc(slices.Values(nodes), func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// routeTo goes through the first address of the range's family that is on a
// link.
func routeTo(cidr netip.Prefix, via []netip.Addr, links []Link) (Route, bool) {
	for _, addr := range via {
		if addr.Is4() != cidr.Addr().Is4() {
			continue
		}
		for _, link := range links {
			onLink := func(p netip.Prefix) bool { return p.Contains(addr) && p.Addr() != addr }
			if slices.ContainsFunc(link.Prefixes, onLink) {
				return Route{Dst: cidr, Via: addr, Link: link.Index}, true
			}
		}
	}
	return Route{}, false
}

func internalIPs(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out = append(out, addr.Unmap())
		}
	}
	return out
}
