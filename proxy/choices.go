// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/bpf"
)

// Choice is an endpoint of a Service, and whether a frontend leads to it.
type Choice struct {
	Backend bpf.Backend
	// Node is where it runs, as the EndpointSlice has it.
	Node string
	// Unused says why the frontend does not lead to it; empty when it does.
	Unused string
}

// Choices returns all endpoints of the Service port behind a frontend, with the
// reasons of Compile. There are none for a frontend that is no Service's.
func Choices(objects Objects, facts Facts, f bpf.Frontend) []Choice {
	owner := Owners(objects, facts)[f]
	for _, s := range objects.Services {
		if "Service "+objectName(s) != owner {
			continue
		}
		for _, port := range s.Spec.Ports {
			if protocol, ok := protocolOf(port.Protocol); ok && protocol == f.Protocol && (uint16(port.Port) == f.Port || uint16(port.NodePort) == f.Port) {
				return choices(objects, facts, s, port, f)
			}
		}
	}
	return nil
}

func choices(objects Objects, facts Facts, s *corev1.Service, port corev1.ServicePort, f bpf.Frontend) []Choice {
	c := newCompiler("", s.CreationTimestamp, facts)
	all := c.endpoints(slicesOf(objects.Slices, s), port)
	policy := localPolicy(s, f)
	allowed := all
	if policy != "" {
		allowed = all.local(facts.NodeName)
	}
	used := allowed.usable(f.Addr.Is4(), facts)
	var out []Choice
	for _, e := range all {
		out = append(out, Choice{Backend: backendOf(e, facts), Node: e.node, Unused: unused(e, used, policy, f, facts)})
	}
	slices.SortFunc(out, func(a, b Choice) int {
		return cmp.Or(a.Backend.Addr.Compare(b.Backend.Addr), cmp.Compare(a.Backend.Port, b.Backend.Port), cmp.Compare(a.Unused, b.Unused))
	})
	return slices.Compact(out)
}

func slicesOf(all []*discoveryv1.EndpointSlice, s *corev1.Service) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(slices.Clone(all), func(slice *discoveryv1.EndpointSlice) bool { return serviceOf(slice) != objectName(s) })
}

// localPolicy is the field that keeps a frontend to endpoints of this node.
func localPolicy(s *corev1.Service, f bpf.Frontend) string {
	cluster := slices.Contains(clusterIPs(s), f.Addr.String())
	if cluster && s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal {
		return "internalTrafficPolicy"
	}
	if f.Scope == bpf.ScopeExternal && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return "externalTrafficPolicy"
	}
	return ""
}

// unused is why an endpoint is none of those that are used.
func unused(e endpoint, used endpoints, policy string, f bpf.Frontend, facts Facts) string {
	anyReady := slices.ContainsFunc(used, func(one endpoint) bool { return one.ready })
	switch {
	case slices.ContainsFunc(used, func(one endpoint) bool { return one.addr == e.addr && one.port == e.port }):
		return ""
	case e.addr.Is4() != f.Addr.Is4():
		return "is of the other address family"
	case policy != "" && e.node != facts.NodeName:
		return fmt.Sprintf("is not on this node, and %s is Local", policy)
	case !e.ready && !e.terminating:
		return "is not ready"
	case e.terminating && anyReady:
		return "terminates, and others are ready"
	case len(e.nodes) > 0 && !slices.Contains(e.nodes, facts.NodeName):
		return "is meant for node " + strings.Join(e.nodes, ", ")
	case len(e.zones) > 0 && !slices.Contains(e.zones, facts.Zone):
		return "is meant for zone " + strings.Join(e.zones, ", ")
	}
	return "others are nearer"
}
