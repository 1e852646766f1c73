// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"slipway.dev/slipway/test/api"
)

const nodeName = "n1"

// service is a Service of type NodePort of both families, on port 80 by TCP and
// UDP.
type service struct {
	name     string
	number   int // the last of its addresses, and of its node port
	local    bool
	port     int
	backends []endpoint
}

type endpoint struct{ name, node, v4, v6 string }

func (l *lab) services() []service {
	pods := []endpoint{{"first", nodeName, l.first.v4, l.first.v6}, {"second", nodeName, l.second.v4, l.second.v6}}
	return []service{
		{"web", 1, false, podPort, pods},
		{"local", 2, true, localPort, pods},
		{"far", 3, false, podPort, []endpoint{{"far", "n2", farV4, farV6}}},
		{"host", 4, false, hostPort, []endpoint{{"host", nodeName, nodeV4, nodeV6}}},
	}
}

func (s service) nodePort() int { return 30000 + s.number }

// clusterIP returns the Service's address of a family, none that a cluster on this
// machine has.
func (s service) clusterIP(v6 bool) string {
	if v6 {
		return fmt.Sprintf("fd00:5196::%d", s.number)
	}
	return fmt.Sprintf("198.18.96.%d", s.number)
}

func (s service) names() []string {
	var out []string
	for _, b := range s.backends {
		out = append(out, b.name)
	}
	return out
}

// targets are the addresses of Services as clients inside or outside use them.
func targets(services []service, inside bool) []target {
	var out []target
	for _, s := range services {
		for _, network := range []string{"tcp", "udp"} {
			for _, v6 := range []bool{false, true} {
				host, port := nodeV4, s.nodePort()
				if v6 {
					host = nodeV6
				}
				if inside {
					host, port = s.clusterIP(v6), 80
				}
				at := net.JoinHostPort(host, fmt.Sprint(port))
				out = append(out, target{fmt.Sprintf("%s %s %s", s.name, network, at), network, at, s.names()})
			}
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func (s service) objects() []api.Object {
	policy := corev1.ServiceExternalTrafficPolicyCluster
	if s.local {
		policy = corev1.ServiceExternalTrafficPolicyLocal
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: s.name, UID: "1"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: policy, IPFamilyPolicy: ptr(corev1.IPFamilyPolicyRequireDualStack),
			InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyCluster), SessionAffinity: corev1.ServiceAffinityNone,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			ClusterIP:  s.clusterIP(false), ClusterIPs: []string{s.clusterIP(false), s.clusterIP(true)},
		},
	}
	out := []api.Object{svc}
	var ports []discoveryv1.EndpointPort
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: string(protocol), Protocol: protocol, Port: 80, NodePort: int32(s.nodePort()), TargetPort: intstr.FromInt(s.port),
		})
		ports = append(ports, discoveryv1.EndpointPort{Name: ptr(string(protocol)), Protocol: ptr(protocol), Port: ptr(int32(s.port))})
	}
	for _, v6 := range []bool{false, true} {
		out = append(out, s.slice(v6, ports))
	}
	return out
}

func (s service) slice(v6 bool, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "a", Name: fmt.Sprintf("%s-%v", s.name, v6), Labels: map[string]string{discoveryv1.LabelServiceName: s.name},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: ports,
	}
	if v6 {
		slice.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, b := range s.backends {
		addr := b.v4
		if v6 {
			addr = b.v6
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr}, NodeName: ptr(b.node),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
		})
	}
	return slice
}

func nodeObject() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24", "fd00:244::/64"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: nodeV4}, {Type: corev1.NodeInternalIP, Address: nodeV6},
		}},
	}
}
