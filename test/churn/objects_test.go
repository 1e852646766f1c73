// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/test/api"
)

// How an endpoint may be.
type state int

const (
	gone state = iota
	ready
	notReady
	terminating
	states
)

// portsEach is how many of the servers' ports a Service has for itself.
const portsEach = 2

// nodePorts are shared by all Services: one that is given up is another's soon.
const firstNodePort, nodePorts = 30000, 100

// port is a port of a Service.
type port struct {
	corev1.ServicePort
	target int32
}

// service is what the API has of a Service. Its addresses are those of its
// place, which the next one has after it.
type service struct {
	place    int
	name     string
	ports    []port
	affinity bool
	// internal and external are policy Local.
	internal, external bool
	endpoints          []state
}

// maker makes Services by chance.
type maker struct {
	*rand.Rand
	targets []*target
	made    int
	// nodePort are those in use.
	nodePort map[int32]bool
}

func (m *maker) service(place int) *service {
	m.made++
	s := &service{place: place, name: fmt.Sprintf("place%d-%d", place, m.made), endpoints: make([]state, len(m.targets))}
	for i := range s.endpoints {
		s.endpoints[i] = m.state()
	}
	m.setPorts(s)
	m.setPolicies(s)
	return s
}

// steady is a Service that has all endpoints.
func (m *maker) steady(place int) *service {
	s := m.service(place)
	s.affinity, s.internal, s.external = place == 1, place == 2, place == 3
	for i := range s.endpoints {
		s.endpoints[i] = ready
	}
	m.freePorts(s)
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		s.ports = append(s.ports, m.port(s, 80, protocol))
	}
	return s
}

// state is more often ready than not.
func (m *maker) state() state {
	if m.IntN(2) == 0 {
		return ready
	}
	return state(m.IntN(int(states)))
}

func (m *maker) setPolicies(s *service) {
	s.affinity, s.internal, s.external = m.IntN(4) == 0, m.IntN(4) == 0, m.IntN(4) == 0
}

func (m *maker) freePorts(s *service) {
	for _, p := range s.ports {
		delete(m.nodePort, p.NodePort)
	}
	s.ports = nil
}

// setPorts gives a Service other ports.
func (m *maker) setPorts(s *service) {
	m.freePorts(s)
	for number := range int32(4) {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			if m.IntN(3) == 0 || len(s.ports) == 0 && number == 3 {
				s.ports = append(s.ports, m.port(s, 80+number, protocol))
			}
		}
	}
}

func (m *maker) port(s *service, number int32, protocol corev1.Protocol) port {
	m.made++
	node := int32(firstNodePort + m.IntN(nodePorts))
	for m.nodePort[node] {
		node = firstNodePort + (node-firstNodePort+1)%nodePorts
	}
	m.nodePort[node] = true
	return port{
		corev1.ServicePort{Name: fmt.Sprint("p", m.made), Protocol: protocol, Port: number, NodePort: node},
		int32(firstPort + s.place*portsEach + m.IntN(portsEach)),
	}
}

// clusterIPs, externalIPs and balancerIPs are those of a place.
func clusterIPs(place int) []string {
	return []string{fmt.Sprintf("10.96.0.%d", 10+place), fmt.Sprintf("fd00:96::%x", 10+place)}
}

func externalIPs(place int) []string {
	return []string{fmt.Sprintf("203.0.113.%d", 10+place), fmt.Sprintf("2001:db8:ee::%x", 0x10+place)}
}

func balancerIPs(place int) []string {
	return []string{fmt.Sprintf("203.0.113.%d", 110+place), fmt.Sprintf("2001:db8:ee::%x", 0x1000+place)}
}

// objects are the Service and its slices, one of each family.
func (s *service) objects(targets []*target) []api.Object {
	return []api.Object{s.object(), s.slice(targets, 0), s.slice(targets, 1)}
}

func (s *service) object() *corev1.Service {
	out := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "churn", Name: s.name}}
	ips := clusterIPs(s.place)
	out.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ClusterIP: ips[0], ClusterIPs: ips, ExternalIPs: externalIPs(s.place),
		IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
	}
	for _, ip := range balancerIPs(s.place) {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	for _, p := range s.ports {
		out.Spec.Ports = append(out.Spec.Ports, p.ServicePort)
	}
	if s.affinity {
		out.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if s.internal {
		local := corev1.ServiceInternalTrafficPolicyLocal
		out.Spec.InternalTrafficPolicy = &local
	}
	if s.external {
		out.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	return out
}

func (s *service) slice(targets []*target, family int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "churn", Name: fmt.Sprint(s.name, "-", family), Labels: map[string]string{discoveryv1.LabelServiceName: s.name},
		},
		AddressType: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[family],
	}
	for _, p := range s.ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.target})
	}
	for i, state := range s.endpoints {
		if state == gone {
			continue
		}
		isReady, serving, ends := state == ready, state != notReady, state == terminating
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{targets[i].addrs[family].String()}, NodeName: &targets[i].node,
			Conditions: discoveryv1.EndpointConditions{Ready: &isReady, Serving: &serving, Terminating: &ends},
		})
	}
	return out
}

// frontends are those of one port, as a client inside or outside reaches them.
func (s *service) frontends(p port, outside bool) []frontend {
	out := make([]frontend, 0, 16)
	add := func(addr netip.Addr, number int32) {
		out = append(out, frontend{netip.AddrPortFrom(addr, uint16(number)), p.Protocol == corev1.ProtocolUDP, outside})
	}
	texts := slices.Concat(externalIPs(s.place), balancerIPs(s.place))
	if !outside {
		texts = append(texts, clusterIPs(s.place)...)
		add(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.NodePort)
		add(nearAddrs[0], p.NodePort)
		add(nearAddrs[1], p.NodePort)
	}
	for _, text := range texts {
		add(netip.MustParseAddr(text), p.Port)
	}
	add(nodeAddrs[0], p.NodePort)
	add(nodeAddrs[1], p.NodePort)
	return out
}
