// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestLean(t *testing.T) {
	yes, no, node, zone, host := true, false, "n1", "z1", "web-0"
	hints := &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z2"}}}
	managed := []metav1.ManagedFieldsEntry{{Manager: "someone"}}
	labels := map[string]string{"app": "web"}
	single := corev1.IPFamilyPolicySingleStack
	owners := []metav1.OwnerReference{{Kind: "Service", Name: "web"}}
	for _, test := range []struct {
		name       string
		from, want runtime.Object
	}{
		{
			name: "EndpointSlice",
			from: &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Name: "web-x", GenerateName: "web-", Labels: map[string]string{discoveryv1.LabelServiceName: "web", "app": "web"},
					Annotations: map[string]string{"a": "b"}, ManagedFields: managed, OwnerReferences: owners,
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{
					{
						Addresses: []string{"10.0.0.1", "10.0.0.22"}, NodeName: &node, Zone: &zone, Hostname: &host, Hints: hints,
						Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
						TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: "web-0"}, DeprecatedTopology: map[string]string{"a": "b"},
					},
					{Addresses: nil},
					{Addresses: []string{"10.0.0.333", ""}, Zone: &zone, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
				},
				Ports: []discoveryv1.EndpointPort{{Name: &host}},
			},
			want: &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Name: "web-x", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}, Annotations: map[string]string{"a": "b"},
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Endpoints: []discoveryv1.Endpoint{
					{
						Addresses: []string{"10.0.0.1", "10.0.0.22"}, NodeName: &node, Zone: &zone, Hints: hints,
						Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
					},
					{Addresses: []string{}},
					{Addresses: []string{"10.0.0.333", ""}, Zone: &zone, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
				},
				Ports: []discoveryv1.EndpointPort{{Name: &host}},
			},
		},
		{
			name: "Service",
			from: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: labels, ManagedFields: managed, OwnerReferences: owners},
				Spec: corev1.ServiceSpec{
					ClusterIP: "10.96.0.5", Selector: labels, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
				},
			},
			want: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "web", OwnerReferences: owners},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.5"},
			},
		},
		{name: "full Service", from: fullService(), want: fullService()},
		{name: "headless Service", from: headlessService(), want: headlessService()},
		{name: "ports of an EndpointSlice", from: slicePorts(), want: slicePorts()},
		{
			name: "nothing", from: &corev1.Service{}, want: &corev1.Service{},
		},
		{
			name: "no EndpointSlice of a Service", from: &discoveryv1.EndpointSlice{}, want: &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{}},
		},
		{
			name: "Service with a load balancer",
			from: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, ManagedFields: managed},
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, Selector: labels, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
				},
			},
			want: &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
				},
			},
		},
		{
			name: "Service of another proxy",
			from: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", serviceProxyName: "other"}}},
			want: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{serviceProxyName: "other"}}},
		},
		{name: "another object", from: &corev1.Node{ObjectMeta: metav1.ObjectMeta{ManagedFields: managed}}, want: &corev1.Node{ObjectMeta: metav1.ObjectMeta{ManagedFields: managed}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// An informer may do it twice.
			for range 2 {
				got, err := lean(test.from)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
		})
	}
}

// TestLeanNamesOnce has endpoints on one node share its name.
func TestLeanNamesOnce(t *testing.T) {
	one, same := "n1", "n1"
	s := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{NodeName: &one}, {NodeName: &same}}}
	if _, err := lean(s); err != nil {
		t.Fatal(err)
	}
	if s.Endpoints[0].NodeName != s.Endpoints[1].NodeName {
		t.Error("each endpoint has a name of its own")
	}
}

// fullService has each field that is packed.
func fullService() *corev1.Service {
	policy := corev1.ServiceInternalTrafficPolicyLocal
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "a", UID: "0-1-2", ResourceVersion: "77"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5", "fd00:96::5"},
			SessionAffinity: corev1.ServiceAffinityNone, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster, InternalTrafficPolicy: &policy,
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080, TargetPort: intstr.FromString("web")},
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(5353)},
			},
		},
	}
}

func headlessService() *corev1.Service {
	policy := corev1.ServiceInternalTrafficPolicy("Unknown")
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}, InternalTrafficPolicy: &policy},
	}
}

func slicePorts() *discoveryv1.EndpointSlice {
	name, protocol, port, app := "http", corev1.ProtocolSCTP, int32(8080), "h2c"
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web-x", Namespace: "a", UID: "0-1-3", ResourceVersion: "78"},
		AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{},
		Ports: []discoveryv1.EndpointPort{{}, {Name: &name, Protocol: &protocol, Port: &port, AppProtocol: &app}, {Port: &port}},
	}
}
