// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// The values of kube-proxy's label traffic_policy.
const internalPolicy, externalPolicy = "internal", "external"

// gap is a traffic policy Local that nobody on this node can fulfil.
type gap struct{ policy, family string }

// gaps counts the ports of Services that have endpoints, but none here where
// their policy wants them here.
type gaps map[gap]int

// allGaps are those of all Services.
func (s *state) allGaps() gaps {
	sum := gaps{}
	for _, one := range s.gaps {
		for key, n := range one {
			sum[key] += n
		}
	}
	return sum
}

// gapsOf counts those of a Service.
func gapsOf(s *corev1.Service, slices []*discoveryv1.EndpointSlice, facts Facts) gaps {
	policies := map[string]bool{
		internalPolicy: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		externalPolicy: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	if !served(s) || !policies[internalPolicy] && !policies[externalPolicy] {
		return nil
	}
	out := gaps{}
	c := newCompiler("", s.CreationTimestamp, facts)
	for _, port := range s.Spec.Ports {
		all := c.endpoints(slices, port)
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			v4 := any.Is4()
			if !hasFamily(s, any) || len(all.usable(v4, facts)) == 0 || len(all.local(facts.NodeName).usable(v4, facts)) > 0 {
				continue
			}
			for policy, local := range policies {
				if local {
					out[gap{policy, familyOf(v4)}]++
				}
			}
		}
	}
	return out
}
