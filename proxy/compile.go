// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/bpf"
)

// serviceProxyName is the label of Services that another proxy takes care of.
const serviceProxyName = "service.kubernetes.io/service-proxy-name"

// Objects is what the API says.
type Objects struct {
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
	// Pods are those of this node.
	Pods []*corev1.Pod
}

// Facts is what is known of the node.
type Facts struct {
	// NodeName is that of the Node object.
	NodeName string
	// Zone is the node's label topology.kubernetes.io/zone.
	Zone string
	// NodeAddrs are the addresses that NodePorts are served on.
	NodeAddrs []netip.Addr
	// PeerAddrs are the addresses of other nodes. Their NodePorts are served
	// here for clients on this node, so that a packet takes the short way.
	PeerAddrs []netip.Addr
}

// Tables are what each frontend leads to.
type Tables map[bpf.Frontend]Target

// Target is what a frontend leads to.
type Target struct {
	// Backends are sorted, none twice. A frontend without backends belongs to
	// a Service without endpoints.
	Backends []bpf.Backend
	// Affinity is for how long a client keeps its backend, in seconds; 0 for
	// a Service without session affinity.
	Affinity uint32
}

// Problem is an object, or a part of one, that cannot be served.
type Problem struct {
	// Object is KIND NAMESPACE/NAME.
	Object string
	// Message names the field, its value and what was expected.
	Message string
}

// Error returns the problem as one line.
func (p Problem) Error() string { return p.Object + ": " + p.Message }

// Compile turns objects into tables. It is a pure function: the same input
// gives the same output. What makes no sense becomes a Problem, and the rest
// is compiled. Endpoints are chosen as KEP-1669 says: the ready ones, and if
// there is none those that still serve while they terminate.
func Compile(objects Objects, facts Facts) (Tables, []Problem) {
	c := &compiler{facts: facts, slices: map[string][]*discoveryv1.EndpointSlice{}, tables: Tables{}, owners: map[bpf.Frontend]string{}}
	for _, slice := range objects.Slices {
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		c.slices[key] = append(c.slices[key], slice)
	}
	// The oldest Service wins a frontend that several claim.
	services := slices.Clone(objects.Services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(objectName(a), objectName(b)))
	})
	for _, service := range services {
		if served(service) {
			c.service(service)
		}
	}
	c.hostPorts(objects.Pods)
	return c.tables, c.problems
}

// served tells whether a Service is ours to translate.
func served(s *corev1.Service) bool {
	_, other := s.Labels[serviceProxyName]
	return !other && s.Spec.Type != corev1.ServiceTypeExternalName &&
		s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.ClusterIP != ""
}

func objectName(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

type compiler struct {
	facts    Facts
	slices   map[string][]*discoveryv1.EndpointSlice
	tables   Tables
	owners   map[bpf.Frontend]string
	problems []Problem
}

func (c *compiler) problem(s *corev1.Service, format string, args ...any) {
	c.problems = append(c.problems, Problem{"Service " + objectName(s), fmt.Sprintf(format, args...)})
}

func (c *compiler) service(s *corev1.Service) {
	for i, port := range s.Spec.Ports {
		protocol, ok := protocolOf(port.Protocol)
		if !ok {
			c.problem(s, "spec.ports[%d].protocol %s: only TCP and UDP are served", i, port.Protocol)
			continue
		}
		if port.Port < 1 || port.Port > 65535 {
			c.problem(s, "spec.ports[%d].port %d: expected 1 to 65535", i, port.Port)
			continue
		}
		if port.NodePort < 0 || port.NodePort > 65535 {
			c.problem(s, "spec.ports[%d].nodePort %d: expected 1 to 65535", i, port.NodePort)
			port.NodePort = 0
		}
		c.port(s, port, protocol)
	}
}

// affinity is the time that a client keeps its backend after its last
// connection. The API server sets a default and checks the bounds.
func affinity(s *corev1.Service) uint32 {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil && *c.ClientIP.TimeoutSeconds > 0 {
		return uint32(*c.ClientIP.TimeoutSeconds)
	}
	return uint32(corev1.DefaultClientIPServiceAffinitySeconds)
}

func protocolOf(p corev1.Protocol) (bpf.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return bpf.ProtocolTCP, true
	case corev1.ProtocolUDP:
		return bpf.ProtocolUDP, true
	}
	return 0, false
}

// port makes all frontends of one port of a Service.
func (c *compiler) port(s *corev1.Service, port corev1.ServicePort, protocol bpf.Protocol) {
	all := c.endpoints(s, port)
	inside, outside := all, all
	if s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal {
		inside = all.local(c.facts.NodeName)
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		outside = all.local(c.facts.NodeName)
	}
	add := func(addr netip.Addr, number int32, scope bpf.Scope, from endpoints) {
		c.frontend(s, bpf.Frontend{Addr: addr, Port: uint16(number), Protocol: protocol, Scope: scope}, from)
	}
	for _, addr := range c.addresses(s, "spec.clusterIPs", clusterIPs(s)) {
		add(addr, port.Port, bpf.ScopeCluster, inside)
	}
	// Pods and the node itself reach the other addresses with policy Cluster.
	for _, addr := range c.externalAddresses(s) {
		add(addr, port.Port, bpf.ScopeCluster, all)
		add(addr, port.Port, bpf.ScopeExternal, outside)
	}
	if port.NodePort == 0 {
		return
	}
	if loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1}); hasFamily(s, loopback) {
		add(loopback, port.NodePort, bpf.ScopeCluster, all)
	}
	for _, addr := range c.facts.NodeAddrs {
		if !hasFamily(s, addr) {
			continue
		}
		add(addr, port.NodePort, bpf.ScopeCluster, all)
		add(addr, port.NodePort, bpf.ScopeExternal, outside)
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return // Which endpoints are local to the other node is its to say.
	}
	for _, addr := range c.facts.PeerAddrs {
		if hasFamily(s, addr) && !slices.Contains(c.facts.NodeAddrs, addr) {
			add(addr, port.NodePort, bpf.ScopeCluster, all)
		}
	}
}

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

// externalAddresses are those that are neither cluster nor node addresses,
// each once.
func (c *compiler) externalAddresses(s *corev1.Service) []netip.Addr {
	out := c.addresses(s, "spec.externalIPs", s.Spec.ExternalIPs)
	// An entry that is not for us keeps its place, so that a field is named
	// as it is in the object.
	vips := make([]string, len(s.Status.LoadBalancer.Ingress))
	for i, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			vips[i] = in.IP
		}
	}
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		c.problem(s, "spec.loadBalancerSourceRanges: not supported yet, so the load-balancer addresses are not served")
		vips = nil
	}
	out = append(out, c.addresses(s, "status.loadBalancer.ingress", vips)...)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// addresses parses those of a field; empty ones are left out.
func (c *compiler) addresses(s *corev1.Service, field string, texts []string) []netip.Addr {
	var out []netip.Addr
	for i, text := range texts {
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsUnspecified() || addr.Zone() != "" {
			c.problem(s, "%s[%d] %q: expected an IP address", field, i, text)
			continue
		}
		out = append(out, addr.Unmap())
	}
	return out
}

func (c *compiler) frontend(s *corev1.Service, f bpf.Frontend, from endpoints) {
	if owner, taken := c.owners[f]; taken {
		c.problem(s, "%s port %d/%s: belongs to %s already", f.Addr, f.Port, f.Protocol, owner)
		return
	}
	c.owners[f] = "Service " + objectName(s)
	c.tables[f] = Target{Backends: c.backends(f, from), Affinity: affinity(s)}
}

// backends are the usable endpoints of the frontend's family.
func (c *compiler) backends(f bpf.Frontend, from endpoints) []bpf.Backend {
	usable := from.usable(f.Addr.Is4(), c.facts)
	out := make([]bpf.Backend, 0, len(usable))
	for _, e := range usable {
		b := bpf.Backend{Addr: e.addr, Port: e.port}
		switch {
		case slices.Contains(c.facts.NodeAddrs, e.addr):
			b.Flags = bpf.BackendLocalHost
		case e.node == c.facts.NodeName:
			b.Flags = bpf.BackendLocalPod
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b bpf.Backend) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Flags, b.Flags))
	})
	return slices.Compact(out)
}
