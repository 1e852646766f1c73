// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
)

// NewFacts are those of a node with its addresses, among all nodes.
func NewFacts(name string, addrs []netip.Addr, nodes []*corev1.Node) Facts {
	f := Facts{NodeName: name, NodeAddrs: addrs}
	for _, node := range nodes {
		if node.Name == name {
			f.Zone, f.Primary = zoneOf(node), primary(internalAddrs(node))
			continue
		}
		f.PeerAddrs = append(f.PeerAddrs, internalAddrs(node)...)
	}
	slices.SortFunc(f.PeerAddrs, netip.Addr.Compare)
	f.PeerAddrs = slices.Compact(f.PeerAddrs)
	if f.Primary == nil {
		f.Primary = primary(addrs)
	}
	return f
}

// primary are the first of each family.
func primary(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, addr := range addrs {
		if !slices.ContainsFunc(out, func(a netip.Addr) bool { return a.Is4() == addr.Is4() }) {
			out = append(out, addr)
		}
	}
	return out
}

func internalAddrs(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// NodeOf returns the name of the node that has one of the addresses, empty when
// there is none.
func NodeOf(nodes []*corev1.Node, addrs []netip.Addr) string {
	for _, node := range nodes {
		if slices.ContainsFunc(internalAddrs(node), func(a netip.Addr) bool { return slices.Contains(addrs, a) }) {
			return node.Name
		}
	}
	return ""
}

// NodeAddrs returns the addresses of this machine that NodePorts may be served on.
func NodeAddrs() ([]netip.Addr, error) {
	found, err := nodeLinks()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, own := range found {
		out = append(out, own...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// Owners returns the objects that Compile makes frontends for, as KIND
// NAMESPACE/NAME.
func Owners(objects Objects, facts Facts) map[bpf.Frontend]string {
	out := map[bpf.Frontend]string{}
	for f, claim := range merge(objects, facts).owners {
		out[f] = claim.by.object
	}
	return out
}
