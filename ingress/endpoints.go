// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoints lists the addresses of a Service port: those that are ready, and
// if there is none those that still serve while they terminate. Of a
// dual-stack Service the IPv4 addresses are used, which are the same pods.
func endpoints(from []*discoveryv1.EndpointSlice, port *corev1.ServicePort) []netip.AddrPort {
	var ready, terminating []netip.AddrPort
	for _, slice := range from {
		number := slicePort(slice, port.Name)
		if number == 0 {
			continue
		}
		for _, e := range slice.Endpoints {
			at, ok := endpointAt(e, number)
			switch yes := func(b *bool) bool { return b == nil || *b }; {
			case !ok:
			case yes(e.Conditions.Ready):
				ready = append(ready, at)
			case yes(e.Conditions.Serving):
				terminating = append(terminating, at)
			}
		}
	}
	if len(ready) == 0 {
		ready = terminating
	}
	return oneFamily(ready)
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) uint16 {
	for _, p := range slice.Ports {
		own := ""
		if p.Name != nil {
			own = *p.Name
		}
		if own == name && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port)
		}
	}
	return 0
}

func endpointAt(e discoveryv1.Endpoint, port uint16) (netip.AddrPort, bool) {
	if len(e.Addresses) == 0 {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(e.Addresses[0])
	return netip.AddrPortFrom(addr, port), err == nil
}

func oneFamily(list []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(list, netip.AddrPort.Compare)
	list = slices.Compact(list)
	// IPv4 sorts before IPv6.
	if i := slices.IndexFunc(list, func(a netip.AddrPort) bool { return a.Addr().Is6() }); i > 0 {
		list = list[:i]
	}
	return list
}
