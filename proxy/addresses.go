// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs
	}
	return []string{s.Spec.ClusterIP}
}

// hasFamily tells whether a Service is of the family of an address. Its
// cluster addresses tell, as they do for kube-proxy.
func hasFamily(s *corev1.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(clusterIPs(s), func(text string) bool {
		own, err := netip.ParseAddr(text)
		return err == nil && own.Unmap().Is4() == addr.Is4()
	})
}

// external are the addresses of a Service that are neither cluster nor node
// addresses.
type external struct {
	// addrs are sorted, each once.
	addrs []netip.Addr
	// restricted are those that only sources may use, pods and nodes among them.
	restricted map[netip.Addr]bool
	sources    []netip.Prefix
}

func (c *compiler) external(s *corev1.Service) external {
	out := external{addrs: c.ofService(s, "spec.externalIPs", s.Spec.ExternalIPs)}
	// An entry that is not for us keeps its place, so that a field is named
	// as it is in the object.
	vips := make([]string, len(s.Status.LoadBalancer.Ingress))
	for i, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			vips[i] = in.IP
		}
	}
	balanced := c.ofService(s, "status.loadBalancer.ingress", vips)
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		out.sources, out.restricted = c.sourceRanges(s), map[netip.Addr]bool{}
		for _, addr := range balanced {
			out.restricted[addr] = true
		}
	}
	out.addrs = append(out.addrs, balanced...)
	slices.SortFunc(out.addrs, netip.Addr.Compare)
	out.addrs = slices.Compact(out.addrs)
	return out
}

// sourceRanges are those that can be read; it is not nil. When there is none,
// nobody may use the addresses.
func (c *compiler) sourceRanges(s *corev1.Service) []netip.Prefix {
	out := []netip.Prefix{}
	for i, text := range s.Spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || prefix.Addr().Is4In6() {
			c.problem("spec.loadBalancerSourceRanges[%d] %q: expected a range of addresses like 192.0.2.0/24", i, text)
			continue
		}
		out = append(out, prefix.Masked())
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// ofService parses the addresses of a field, of the families that the Service has.
func (c *compiler) ofService(s *corev1.Service, field string, texts []string) []netip.Addr {
	texts = slices.Clone(texts)
	for i, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && !hasFamily(s, addr.Unmap()) {
			c.problem("%s[%d] %q: the Service has no %s address", field, i, text, familyOf(addr.Unmap().Is4()))
			texts[i] = ""
		}
	}
	return c.addresses(field, texts)
}

// addresses parses those of a field; empty ones are left out.
func (c *compiler) addresses(field string, texts []string) []netip.Addr {
	var out []netip.Addr
	for i, text := range texts {
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsUnspecified() || addr.Zone() != "" {
			c.problem("%s[%d] %q: expected an IP address", field, i, text)
			continue
		}
		out = append(out, addr.Unmap())
	}
	return out
}
