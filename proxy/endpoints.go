// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address of a Service port.
type endpoint struct {
	addr        netip.Addr
	port        uint16
	node        string
	ready       bool
	serving     bool
	terminating bool
	// nodes and zones are those that should use this endpoint (KEP-3015,
	// KEP-2433).
	nodes, zones []string
}

type endpoints []endpoint

// local keeps those on the node, which then are used whatever their hints say.
func (e endpoints) local(node string) endpoints {
	var out endpoints
	for _, one := range e {
		if one.node == node {
			one.nodes, one.zones = nil, nil
			out = append(out, one)
		}
	}
	return out
}

// everywhere has no hints, so that all nodes use the same.
func (e endpoints) everywhere() endpoints {
	out := slices.Clone(e)
	for i := range out {
		out[i].nodes, out[i].zones = nil, nil
	}
	return out
}

// usable keeps those of a family that are ready, and of these the ones that are
// meant for the node; if there is none, those that still serve while they
// terminate.
func (e endpoints) usable(v4 bool, at Facts) endpoints {
	ready := e.keep(func(one *endpoint) bool { return one.addr.Is4() == v4 && one.ready })
	if len(ready) > 0 {
		return ready.near(at)
	}
	return e.keep(func(one *endpoint) bool { return one.addr.Is4() == v4 && one.terminating })
}

// keep leaves out some. Mostly it is none, which takes no memory.
func (e endpoints) keep(wanted func(*endpoint) bool) endpoints {
	count := 0
	for i := range e {
		if wanted(&e[i]) {
			count++
		}
	}
	if count == len(e) {
		return e
	}
	out := make(endpoints, 0, count)
	for i := range e {
		if wanted(&e[i]) {
			out = append(out, e[i])
		}
	}
	return out
}

// serving are those that serve, ready or not, in order.
func (e endpoints) serving() []netip.AddrPort {
	var out []netip.AddrPort
	for _, one := range e {
		if one.serving {
			out = append(out, netip.AddrPortFrom(one.addr, one.port))
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// near follows the hints as kube-proxy does: when all ready endpoints have hints
// for nodes, and one has a hint for this node, those with such a hint are used;
// else the same for zones; else all are.
func (e endpoints) near(at Facts) endpoints {
	if found := e.hinted(at.NodeName, func(one endpoint) []string { return one.nodes }); found != nil {
		return found
	}
	if found := e.hinted(at.Zone, func(one endpoint) []string { return one.zones }); found != nil {
		return found
	}
	return e
}

func (e endpoints) hinted(here string, hints func(endpoint) []string) endpoints {
	var out endpoints
	for _, one := range e {
		names := hints(one)
		if len(names) == 0 {
			return nil
		}
		if slices.Contains(names, here) {
			out = append(out, one)
		}
	}
	return out
}

// ofFamilies keeps the slices of the families that a Service has.
func (c *compiler) ofFamilies(s *corev1.Service, all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	out := make([]*discoveryv1.EndpointSlice, 0, len(all))
	for _, slice := range all {
		any, known := anyOf(slice.AddressType)
		_, headless := slice.Labels[corev1.IsHeadlessService]
		switch {
		case headless:
			// Not for proxies, by its label.
		case !known:
			c.sliceProblem(slice, "addressType %s: expected IPv4 or IPv6", slice.AddressType)
		case !hasFamily(s, any):
			c.sliceProblem(slice, "addressType %s: the Service has no %s address", slice.AddressType, slice.AddressType)
		default:
			out = append(out, slice)
		}
	}
	return out
}

// anyOf is an address of a family.
func anyOf(family discoveryv1.AddressType) (netip.Addr, bool) {
	switch family {
	case discoveryv1.AddressTypeIPv4:
		return netip.IPv4Unspecified(), true
	case discoveryv1.AddressTypeIPv6:
		return netip.IPv6Unspecified(), true
	}
	return netip.Addr{}, false
}

func (c *compiler) sliceProblem(slice *discoveryv1.EndpointSlice, format string, args ...any) {
	c.claims.problems = append(c.claims.problems, Problem{
		"EndpointSlice " + slice.Namespace + "/" + slice.Name, fmt.Sprintf(format, args...),
	})
}

// endpoints collects those of a Service port from all its slices, of both
// families.
func (c *compiler) endpoints(found []*discoveryv1.EndpointSlice, port corev1.ServicePort) endpoints {
	var out endpoints
	for _, slice := range found {
		number, ok := c.targetPort(slice, port)
		if !ok {
			continue
		}
		out = slices.Grow(out, len(slice.Endpoints))
		for i, e := range slice.Endpoints {
			one, err := parseEndpoint(slice.AddressType, e)
			if err != nil {
				c.sliceProblem(slice, "endpoints[%d].addresses[0] %v", i, err)
				continue
			}
			one.port = number
			out = append(out, one)
		}
	}
	return out
}

// targetPort is the number of a Service port in a slice: slices name theirs
// after the ports of the Service.
func (c *compiler) targetPort(slice *discoveryv1.EndpointSlice, port corev1.ServicePort) (uint16, bool) {
	for i, p := range slice.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name != port.Name || protocol != cmp.Or(port.Protocol, corev1.ProtocolTCP) || p.Port == nil {
			continue
		}
		if *p.Port < 1 || *p.Port > 65535 {
			c.sliceProblem(slice, "ports[%d].port %d: expected 1 to 65535", i, *p.Port)
			return 0, false
		}
		return uint16(*p.Port), true
	}
	return 0, false
}

// parseEndpoint reads the first address: the API says that all addresses of an
// endpoint are the same, and nobody uses more than one.
func parseEndpoint(family discoveryv1.AddressType, e discoveryv1.Endpoint) (endpoint, error) {
	if len(e.Addresses) == 0 {
		return endpoint{}, errors.New("missing: expected an address")
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	v4 := family == discoveryv1.AddressTypeIPv4
	if err != nil || addr.Is4() != v4 || addr.Is4In6() || addr.Zone() != "" || (!v4 && family != discoveryv1.AddressTypeIPv6) {
		return endpoint{}, fmt.Errorf("%q: expected an address of type %s", e.Addresses[0], family)
	}
	out := endpoint{addr: addr}
	if e.NodeName != nil {
		out.node = *e.NodeName
	}
	// Conditions that are not there: ready and serving count as true,
	// terminating as false.
	yes := func(b *bool) bool { return b == nil || *b }
	out.ready = yes(e.Conditions.Ready)
	if h := e.Hints; h != nil {
		for _, node := range h.ForNodes {
			out.nodes = append(out.nodes, node.Name)
		}
		for _, zone := range h.ForZones {
			out.zones = append(out.zones, zone.Name)
		}
	}
	out.serving = out.ready || yes(e.Conditions.Serving)
	out.terminating = yes(e.Conditions.Serving) && e.Conditions.Terminating != nil && *e.Conditions.Terminating
	return out, nil
}
