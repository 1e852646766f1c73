// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"
)

// NodePortAddresses say on which of the node's addresses NodePorts are served. The
// zero value has all of them, as in kube-proxy: a family that is not restricted is
// served on all of its addresses.
type NodePortAddresses struct {
	ranges []netip.Prefix
	// primary adds the addresses of the Node object.
	primary bool
}

// ParseNodePortAddresses reads ranges of addresses and the words "primary",
// "localhost" and "all".
func ParseNodePortAddresses(texts []string) (NodePortAddresses, error) {
	var n NodePortAddresses
	for i, text := range texts {
		if slices.Contains(texts[:i], text) {
			return n, fmt.Errorf("--nodeport-addresses: %q is there twice", text)
		}
		switch text {
		case "primary":
			n.primary = true
		case "localhost":
			n.ranges = append(n.ranges, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		case "all":
			n.ranges = append(n.ranges, everything(true), everything(false))
		default:
			r, err := netip.ParsePrefix(text)
			if err != nil || r.Addr().Is4In6() {
				return n, fmt.Errorf("--nodeport-addresses: %q: expected a range like 192.0.2.0/24, or primary, localhost or all", text)
			}
			n.ranges = append(n.ranges, r.Masked())
		}
	}
	return n, nil
}

func everything(v4 bool) netip.Prefix {
	if v4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// rangesOf are those of a family.
func (n NodePortAddresses) rangesOf(v4 bool, primary []netip.Addr) []netip.Prefix {
	out := slices.DeleteFunc(slices.Clone(n.ranges), func(r netip.Prefix) bool { return r.Addr().Is4() != v4 })
	for _, addr := range primary {
		if n.primary && addr.Is4() == v4 && !addr.IsLoopback() {
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	if len(out) == 0 {
		return []netip.Prefix{everything(v4)}
	}
	return out
}

// nodePortAddrs are the node's addresses with NodePorts, loopback among them. The
// IPv6 one is served only when a range is just that, since nothing else leads there.
func (f Facts) nodePortAddrs() []netip.Addr {
	var out []netip.Addr
	for _, v4 := range []bool{true, false} {
		ranges := f.NodePorts.rangesOf(v4, f.Primary)
		if loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1}); v4 && contain(ranges, loopback) {
			out = append(out, loopback)
		}
		if loopback := netip.IPv6Loopback(); !v4 && slices.Contains(ranges, netip.PrefixFrom(loopback, 128)) {
			out = append(out, loopback)
		}
		for _, addr := range f.NodeAddrs {
			if addr.Is4() == v4 && contain(ranges, addr) {
				out = append(out, addr)
			}
		}
	}
	return out
}

// peerPortAddrs are the addresses of other nodes that have NodePorts, if they are
// restricted as this one is. The primary ones are those that their Node objects have.
func (f Facts) peerPortAddrs() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(f.PeerAddrs), func(addr netip.Addr) bool {
		return slices.Contains(f.NodeAddrs, addr) || !f.NodePorts.primary && !contain(f.NodePorts.rangesOf(addr.Is4(), nil), addr)
	})
}

func contain(ranges []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(addr) })
}
