// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	nodeName     = "bench"
	otherNode    = "other"
	apiNamespace = "default"
	// servicePort is that of every Service, firstNodePort that of the first one
	// that has one.
	servicePort   = 80
	firstNodePort = 30000
	awayNodePort  = 32000
	// mostTargets is how many Services traffic goes to, in turn: where one
	// stands among all differs with each write of kube-proxy in iptables mode.
	mostTargets = 16
)

// shape is how many objects there are.
type shape struct{ Services, Endpoints int }

// population are the objects of a cluster with one node.
type population struct {
	shape
	// targets are the numbers of the Services that traffic goes to. Their
	// endpoints are the server pods.
	targets []int
}

// populate chooses the targets, always the same ones for a shape.
func populate(s shape) population {
	rnd := rand.New(rand.NewPCG(uint64(s.Services), uint64(s.Endpoints)))
	return population{s, rnd.Perm(s.Services)[:min(s.Services, mostTargets)]}
}

// clusterIP is the address of a Service.
func clusterIP(number int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96, byte(number >> 8), byte(number)}).Next()
}

// clusterIPs are those of all Services, those of the targets first.
func (p population) clusterIPs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, number := range p.targets {
		out = append(out, netip.AddrPortFrom(clusterIP(number), servicePort))
	}
	for number := range p.Services {
		if !slices.Contains(p.targets, number) {
			out = append(out, netip.AddrPortFrom(clusterIP(number), servicePort))
		}
	}
	return out
}

func (p population) nodePorts() []netip.AddrPort {
	var out []netip.AddrPort
	for i := range p.targets {
		out = append(out, netip.AddrPortFrom(nodeAddr, uint16(firstNodePort+i)))
	}
	return out
}

// endpointAddrs are those that the direct side goes to: all endpoints of the
// targets.
func (p population) endpointAddrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, number := range p.targets {
		for _, addr := range serverAddrs {
			out = append(out, netip.AddrPortFrom(addr, uint16(p.port(number))))
		}
	}
	return out
}

// endpoints are the addresses of a Service's endpoints.
func (p population) endpoints(number int) []netip.Addr {
	if slices.Contains(p.targets, number) {
		return serverAddrs[:min(p.Endpoints, len(serverAddrs))]
	}
	var out []netip.Addr
	base := crowd.Addr().As4()
	for i := range p.Endpoints {
		n := number*p.Endpoints + i
		out = append(out, netip.AddrFrom4([4]byte{base[0], base[1] + byte(n>>16), byte(n >> 8), byte(n)}))
	}
	return out
}

func serviceName(number int) string { return fmt.Sprintf("service-%05d", number) }

// service is as the API server would give it.
func (p population) service(number int) *corev1.Service {
	ip, name := clusterIP(number).String(), serviceName(number)
	single, cluster := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: apiNamespace, Name: name, Labels: map[string]string{"app": name},
			ManagedFields: managed("kubectl-create", `{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`),
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": name},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single, InternalTrafficPolicy: &cluster,
			SessionAffinity: corev1.ServiceAffinityNone,
			Ports:           []corev1.ServicePort{{Name: "http", Port: servicePort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(p.port(number))}},
		},
	}
	if i := slices.Index(p.targets, number); i >= 0 {
		s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(firstNodePort+i)
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	return s
}

// port is that of the endpoints of a Service. Each target has one of its own, as
// Services mostly have pods of their own.
func (p population) port(number int) int32 {
	return int32(serverPort + max(slices.Index(p.targets, number), 0))
}

// slice is as the EndpointSlice controller would give it.
func (p population) slice(number int, addrs []netip.Addr) *discoveryv1.EndpointSlice {
	name := serviceName(number)
	yes, no, port, portName, protocol := true, false, p.port(number), "http", corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: apiNamespace, Name: name + "-x7k2p", GenerateName: name + "-",
			Labels: map[string]string{
				"app": name, discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: name, UID: types.UID(uid(number)), Controller: &yes, BlockOwnerDeletion: &yes}},
			ManagedFields:   managed("kube-controller-manager", `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"`+uid(number)+`\"}":{}}},"f:ports":{}}`),
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	for i, addr := range addrs {
		node := otherNode
		if slices.Contains(serverAddrs, addr) {
			node = nodeName
		}
		pod := name + "-" + strconv.Itoa(i)
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr.String()}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: apiNamespace, Name: pod, UID: types.UID(uid(number))},
		})
	}
	return s
}

func uid(number int) string { return fmt.Sprintf("7f0c2a54-93f1-4d6e-8a57-%012d", number) }

func managed(manager, fields string) []metav1.ManagedFieldsEntry {
	at := metav1.NewTime(time.Now().Truncate(time.Second))
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}}
}

// away is a Service with endpoints on another node alone.
func (p population) away() (*corev1.Service, *discoveryv1.EndpointSlice) {
	var addrs []netip.Addr
	for addr := away.Addr(); away.Contains(addr); addr = addr.Next() {
		addrs = append(addrs, addr)
	}
	service, endpoints := p.service(p.Services), p.slice(p.Services, addrs)
	service.Spec.Type, service.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, awayNodePort
	service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	return service, endpoints
}

// machine is the Node object.
func machine() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Spec:       corev1.NodeSpec{PodCIDR: podCIDR.String(), PodCIDRs: []string{podCIDR.String()}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddr.String()}},
		},
	}
}
