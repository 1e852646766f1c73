// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/proxy/health"
)

// HealthChecks returns the health checks of all Services that ask for one: those
// of type LoadBalancer with externalTrafficPolicy Local. The number is of ready
// endpoints on this node.
func HealthChecks(objects Objects, node string) map[types.NamespacedName]health.Check {
	out := map[types.NamespacedName]health.Check{}
	for _, s := range objects.Services {
		port := s.Spec.HealthCheckNodePort
		if !served(s) || s.Spec.Type != corev1.ServiceTypeLoadBalancer || port < 1 || port > 65535 ||
			s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			continue
		}
		out[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = health.Check{Port: uint16(port)}
	}
	if len(out) == 0 {
		return out
	}
	local := map[types.NamespacedName]map[netip.Addr]bool{}
	for _, slice := range objects.Slices {
		name := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		if _, asked := out[name]; !asked {
			continue
		}
		for _, e := range slice.Endpoints {
			one, err := parseEndpoint(slice.AddressType, e)
			if err != nil || !one.ready || one.node != node {
				continue
			}
			if local[name] == nil {
				local[name] = map[netip.Addr]bool{}
			}
			local[name][one.addr] = true
		}
	}
	for name, addrs := range local {
		out[name] = health.Check{Port: out[name].Port, Local: len(addrs)}
	}
	return out
}

// takesTraffic tells whether load balancers may send traffic to a node: not to
// one that is about to be deleted (KEP-3836).
func takesTraffic(node *corev1.Node) bool {
	return node.DeletionTimestamp.IsZero() && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == toBeDeleted
	})
}

// toBeDeleted is the taint that the cluster autoscaler gives to a node first.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// answerHealth tells the health server what objects say.
func (p *Proxy) answerHealth(objects Objects) []Problem {
	if node, err := p.nodes.Get(p.cfg.NodeName); err == nil {
		p.health.SetEligible(takesTraffic(node))
	}
	var problems []Problem
	for name, err := range p.health.SetChecks(HealthChecks(objects, p.cfg.NodeName)) {
		problems = append(problems, Problem{"Service " + name.String(), "spec.healthCheckNodePort: " + err.Error()})
	}
	return problems
}
