// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
