// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/proxy/health"
)

// HealthCheck returns the health check of a Service, if it asks for one: those
// of type LoadBalancer with externalTrafficPolicy Local do. The number is of
// ready endpoints on this node.
func HealthCheck(s *corev1.Service, slices []*discoveryv1.EndpointSlice, node string) (health.Check, bool) {
	port := s.Spec.HealthCheckNodePort
	if !served(s) || s.Spec.Type != corev1.ServiceTypeLoadBalancer || port < 1 || port > 65535 ||
		s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return health.Check{}, false
	}
	local := map[netip.Addr]bool{}
	for _, slice := range slices {
		for _, e := range slice.Endpoints {
			if one, err := parseEndpoint(slice.AddressType, e); err == nil && one.ready && one.node == node {
				local[one.addr] = true
			}
		}
	}
	return health.Check{Port: uint16(port), Local: len(local)}, true
}
