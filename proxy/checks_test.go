// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/proxy/health"
)

func TestHealthCheck(t *testing.T) {
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
	for name, tt := range map[string]struct {
		change func(*corev1.Service)
		slices []*discoveryv1.EndpointSlice
		want   health.Check
		none   bool
	}{
		"policy Local":   {local, eps, health.Check{Port: 32000, Local: 2}, false},
		"no endpoints":   {local, nil, health.Check{Port: 32000}, false},
		"policy Cluster": {func(s *corev1.Service) { local(s); s.Spec.ExternalTrafficPolicy = "Cluster" }, eps, health.Check{}, true},
		"NodePort":       {func(s *corev1.Service) { local(s); s.Spec.Type = corev1.ServiceTypeNodePort }, eps, health.Check{}, true},
		"of another proxy": {func(s *corev1.Service) {
			local(s)
			s.Labels = map[string]string{serviceProxyName: "other"}
		}, eps, health.Check{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if have, asked := HealthCheck(service(tt.change), tt.slices, "n1"); have != tt.want || asked == tt.none {
				t.Errorf("got %+v, %v; expected %+v, %v", have, asked, tt.want, !tt.none)
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
