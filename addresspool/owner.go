// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Owner returns the node that announces an address: the one of the candidates
// with the highest hash together with the address, so that the loss of a node
// moves its addresses only. There is none without candidates.
func Owner(addr netip.Addr, candidates []string) string {
	owner, best := "", uint64(0)
	for _, node := range candidates {
		hash := fnv.New64a()
		hash.Write([]byte(node))
		hash.Write([]byte{0})
		hash.Write(addr.AsSlice())
		// FNV's last byte hardly reaches the high bits.
		sum := mix(hash.Sum64())
		if owner == "" || sum > best || sum == best && node < owner {
			owner, best = node, sum
		}
	}
	return owner
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// cluster is what ownership depends on.
type cluster struct {
	services []*corev1.Service
	slices   func(namespace, service string) []*discoveryv1.EndpointSlice
	// nodes are those that are alive and take traffic from outside.
	nodes []string
}

// owned returns the addresses of pools that a node announces.
func (c cluster) owned(node string, pools []Pool) []netip.Addr {
	var out []netip.Addr
	for _, s := range c.services {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		candidates := c.candidates(s)
		for _, in := range s.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(in.IP)
			if err != nil || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
				continue
			}
			inPool := slices.ContainsFunc(pools, func(p Pool) bool { return p.Contains(addr) })
			if inPool && Owner(addr, candidates) == node {
				out = append(out, addr)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// candidates are the nodes that may announce a Service: with
// externalTrafficPolicy Local those that have a ready endpoint of it.
func (c cluster) candidates(s *corev1.Service) []string {
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return c.nodes
	}
	with := map[string]bool{}
	for _, slice := range c.slices(s.Namespace, s.Name) {
		for _, e := range slice.Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				with[*e.NodeName] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(c.nodes), func(node string) bool { return !with[node] })
}

// serviceSlices selects the EndpointSlices of a Service.
func serviceSlices(service string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})
}

// takesTraffic tells whether a node may announce addresses.
func takesTraffic(node *corev1.Node) bool {
	_, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]
	return !excluded && node.DeletionTimestamp.IsZero() && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return strings.HasPrefix(t.Key, "ToBeDeletedByClusterAutoscaler")
	})
}
