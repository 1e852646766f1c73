// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/proxy/health"
)

func TestHealthChecks(t *testing.T) {
	local := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 32000
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	eps := []*discoveryv1.EndpointSlice{
		slice(v4, up("10.0.0.1", "n1"), up("10.0.0.2", "n2"), ep{"10.0.0.3", "n1", false, true, true}),
		// The same endpoint for another port counts once.
		slice(v4, up("10.0.0.1", "n1")),
		slice(v6, up("fd00::1", "n1")),
	}
	web := types.NamespacedName{Namespace: "a", Name: "web"}
	for name, tt := range map[string]struct {
		change func(*corev1.Service)
		slices []*discoveryv1.EndpointSlice
		want   map[types.NamespacedName]health.Check
	}{
		"policy Local":   {local, eps, map[types.NamespacedName]health.Check{web: {Port: 32000, Local: 2}}},
		"no endpoints":   {local, nil, map[types.NamespacedName]health.Check{web: {Port: 32000}}},
		"policy Cluster": {func(s *corev1.Service) { local(s); s.Spec.ExternalTrafficPolicy = "Cluster" }, eps, map[types.NamespacedName]health.Check{}},
		"NodePort":       {func(s *corev1.Service) { local(s); s.Spec.Type = corev1.ServiceTypeNodePort }, eps, map[types.NamespacedName]health.Check{}},
		"of another proxy": {func(s *corev1.Service) {
			local(s)
			s.Labels = map[string]string{serviceProxyName: "other"}
		}, eps, map[types.NamespacedName]health.Check{}},
	} {
		t.Run(name, func(t *testing.T) {
			have := HealthChecks(Objects{Services: []*corev1.Service{service(tt.change)}, Slices: tt.slices}, "n1")
			if diff := cmp.Diff(tt.want, have); diff != "" {
				t.Errorf("-want +have:\n%s", diff)
			}
		})
	}
}

func TestTakesTraffic(t *testing.T) {
	node, now := &corev1.Node{}, metav1.Now()
	if !takesTraffic(node) {
		t.Error("a node takes no traffic")
	}
	node.Spec.Taints = []corev1.Taint{{Key: toBeDeleted}}
	if takesTraffic(node) {
		t.Error("one that the autoscaler deletes does")
	}
	node.Spec.Taints, node.DeletionTimestamp = nil, &now
	if takesTraffic(node) {
		t.Error("one that is deleted does")
	}
}
