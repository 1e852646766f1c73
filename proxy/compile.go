// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	// NodeAddrs are the node's own addresses; NodePorts says which of them NodePorts
	// are served on.
	NodeAddrs []netip.Addr
	NodePorts NodePortAddresses
	// PeerAddrs are the addresses of other nodes. Their NodePorts are served
	// here for clients on this node, so that a packet takes the short way.
	PeerAddrs []netip.Addr
	// Primary are the addresses of the Node object, the first of each family: by
	// these the node itself is known as a client.
	Primary []netip.Addr
	// Balancing is for connections from other hosts to Services that do not say
	// how; empty is BalanceRandom.
	Balancing Balancing
	// Forwarding is for those to backends of other nodes; empty is ForwardSNAT.
	Forwarding Forwarding
}

// Tables are what each frontend leads to.
type Tables map[bpf.Frontend]Target

// Target is what a frontend leads to.
type Target struct {
	// Backends are sorted, none twice. A frontend without backends belongs to
	// a Service without endpoints.
	Backends []bpf.Backend
	// Serving are, for UDP, all endpoints of the Service that serve, also those
	// that the frontend does not lead to, sorted. Sockets may keep them.
	Serving []netip.AddrPort
	// Affinity is for how long a client keeps its backend, in seconds; 0 for
	// a Service without session affinity.
	Affinity uint32
	// Service is, with Affinity, the number of the Service's port, so that a client
	// keeps its backend across all addresses of it.
	Service uint64
	// Sources are the addresses that may use it, sorted; nil when all may.
	Sources []netip.Prefix
	// Silent has packets dropped when there are no backends, because there
	// are some on other nodes.
	Silent bool
	// Maglev has a hash of the client choose the backend.
	Maglev bool
	// Direct has backends of other nodes answer the client themselves. It is also
	// on frontends of other nodes, by which these are told.
	Direct bool
}

// Equal tells whether the data path has the same for both.
func (t Target) Equal(other Target) bool {
	return t.Affinity == other.Affinity && t.Service == other.Service && t.Silent == other.Silent && t.Maglev == other.Maglev && t.Direct == other.Direct &&
		slices.Equal(t.Backends, other.Backends) && (t.Sources == nil) == (other.Sources == nil) && slices.Equal(t.Sources, other.Sources)
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
	all := merge(objects, facts)
	return all.tables(), all.problems()
}

// merge compiles all objects at once.
func merge(objects Objects, facts Facts) *merger {
	slices := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range objects.Slices {
		key := serviceOf(slice)
		slices[key] = append(slices[key], slice)
	}
	all := newMerger()
	for _, service := range objects.Services {
		all.set(compileService(service, slices[objectName(service)], facts))
	}
	for _, pod := range objects.Pods {
		all.set(compilePod(pod, facts))
	}
	return all
}

// serviceOf is NAMESPACE/NAME of the Service that a slice belongs to.
func serviceOf(slice *discoveryv1.EndpointSlice) string {
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

// served tells whether a Service is ours to translate.
func served(s *corev1.Service) bool {
	_, other := s.Labels[serviceProxyName]
	_, headless := s.Labels[corev1.IsHeadlessService]
	return !other && !headless && s.Spec.Type != corev1.ServiceTypeExternalName &&
		s.Spec.ClusterIP != corev1.ClusterIPNone && s.Spec.ClusterIP != ""
}

func objectName(s *corev1.Service) string { return s.Namespace + "/" + s.Name }

// compiler makes the claims of one object.
type compiler struct {
	facts  Facts
	claims *claims
	// seen are the frontends in the claims.
	seen map[bpf.Frontend]bool
	// balance and forwardDirect are for connections from other hosts.
	balance       Balancing
	forwardDirect bool
}

func newCompiler(object string, created metav1.Time, facts Facts) *compiler {
	return &compiler{facts: facts, claims: &claims{object: object, created: created.Time}, seen: map[bpf.Frontend]bool{}}
}

// compileService makes the frontends of one Service. slices are all of it.
func compileService(s *corev1.Service, slices []*discoveryv1.EndpointSlice, facts Facts) *claims {
	c := newCompiler("Service "+objectName(s), s.CreationTimestamp, facts)
	if !served(s) {
		return c.claims
	}
	c.balance, c.forwardDirect = c.balancing(s), c.direct(s)
	addrs, external := c.addresses("spec.clusterIPs", clusterIPs(s)), c.external(s)
	slices = c.ofFamilies(s, slices)
	for i, port := range s.Spec.Ports {
		protocol, ok := protocolOf(port.Protocol)
		if !ok {
			c.problem("spec.ports[%d].protocol %s: only TCP, UDP and SCTP are served", i, port.Protocol)
			continue
		}
		if port.Port < 1 || port.Port > 65535 {
			c.problem("spec.ports[%d].port %d: expected 1 to 65535", i, port.Port)
			continue
		}
		if port.NodePort < 0 || port.NodePort > 65535 {
			c.problem("spec.ports[%d].nodePort %d: expected 1 to 65535", i, port.NodePort)
			port.NodePort = 0
		}
		c.port(s, addrs, external, port, protocol, c.endpoints(slices, port))
	}
	for _, addr := range addrs {
		// All other ports are refused.
		c.claim(bpf.Frontend{Addr: addr, Scope: bpf.ScopeCluster}, Target{})
	}
	for _, addr := range external.addrs {
		// So that it answers echo requests.
		c.claim(bpf.Frontend{Addr: addr, Scope: bpf.ScopeExternal}, Target{})
	}
	return c.claims
}

func (c *compiler) problem(format string, args ...any) {
	c.claims.problems = append(c.claims.problems, Problem{c.claims.object, fmt.Sprintf(format, args...)})
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

// number tells Service ports apart that have affinity. It is a hash, so that it is
// the same after a restart and needs no memory. Where two are the same, a client of
// both would forget either's backend for the other's: each leads to its own only.
func number(s *corev1.Service, port corev1.ServicePort) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s/%s", objectName(s), port.Name, port.Protocol)
	return h.Sum64()
}

func protocolOf(p corev1.Protocol) (bpf.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return bpf.ProtocolTCP, true
	case corev1.ProtocolUDP:
		return bpf.ProtocolUDP, true
	case corev1.ProtocolSCTP:
		return bpf.ProtocolSCTP, true
	}
	return 0, false
}

// pools are where the backends of a Service port come from: for all clients on
// this node, for cluster addresses, for other hosts and for the addresses of other
// nodes.
type pools struct{ all, inside, outside, peers *pool }

func (c *compiler) pools(s *corev1.Service, found endpoints) pools {
	from := func(e endpoints) *pool { return &pool{from: e, facts: &c.facts} }
	all := from(found)
	p := pools{all, all, all, all}
	if s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal {
		p.inside = from(found.local(c.facts.NodeName))
	}
	switch {
	case s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
		p.outside = from(found.local(c.facts.NodeName))
	// All nodes must choose among the same, and know what others may choose.
	case c.forwardDirect:
		p.outside = from(found.everywhere())
		p.peers = p.outside
	case c.balance == BalanceMaglev:
		p.outside = from(found.everywhere())
	}
	return p
}

// port makes all frontends of one port of a Service.
func (c *compiler) port(s *corev1.Service, clusterAddrs []netip.Addr, external external, port corev1.ServicePort, protocol bpf.Protocol, found endpoints) {
	from := c.pools(s, found)
	target := Target{Affinity: affinity(s)}
	if target.Affinity > 0 {
		target.Service = number(s, port)
	}
	if protocol == bpf.ProtocolUDP {
		target.Serving = found.serving()
	}
	add := func(addr netip.Addr, number int32, scope bpf.Scope, pool *pool) {
		target.Backends = pool.backends(addr.Is4())
		target.Maglev = scope == bpf.ScopeExternal && c.balance == BalanceMaglev && tabled(len(target.Backends))
		target.Silent = scope == bpf.ScopeExternal && len(target.Backends) == 0 && len(from.all.backends(addr.Is4())) > 0
		c.claim(bpf.Frontend{Addr: addr, Port: uint16(number), Protocol: protocol, Scope: scope}, target)
	}
	for _, addr := range clusterAddrs {
		add(addr, port.Port, bpf.ScopeCluster, from.inside)
	}
	target.Direct = c.forwardDirect
	// Pods and the node itself reach the other addresses with policy Cluster.
	for _, addr := range external.addrs {
		if external.restricted[addr] {
			target.Sources = external.sources
		}
		add(addr, port.Port, bpf.ScopeCluster, from.all)
		add(addr, port.Port, bpf.ScopeExternal, from.outside)
		target.Sources = nil
	}
	if port.NodePort > 0 {
		c.nodePort(s, from, func(addr netip.Addr, scope bpf.Scope, pool *pool) { add(addr, port.NodePort, scope, pool) })
	}
}

// nodePort adds all addresses that a NodePort has.
func (c *compiler) nodePort(s *corev1.Service, from pools, add func(netip.Addr, bpf.Scope, *pool)) {
	for _, addr := range c.facts.nodePortAddrs() {
		if !hasFamily(s, addr) {
			continue
		}
		add(addr, bpf.ScopeCluster, from.all)
		if !addr.IsLoopback() {
			add(addr, bpf.ScopeExternal, from.outside)
		}
	}
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return // Which endpoints are local to the other node is its to say.
	}
	for _, addr := range c.facts.peerPortAddrs() {
		if hasFamily(s, addr) {
			add(addr, bpf.ScopeCluster, from.peers)
		}
	}
}

// claim enters a frontend. An object that has it already keeps the first.
func (c *compiler) claim(f bpf.Frontend, target Target) {
	if c.seen[f] {
		c.problem("%s", taken(f, c.claims.object))
		return
	}
	c.seen[f] = true
	c.claims.wanted = append(c.claims.wanted, wanted{f, target})
}
