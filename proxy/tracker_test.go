// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// value reads one metric: a counter, a gauge, or of a histogram sum and count.
func value(t *testing.T, c prometheus.Collector) (out [2]float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			out[0] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
			out[1] += float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestTracker(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := begin
	m := newKubeProxy()
	tr := newTracker(m, func() time.Time { return at })
	changed := func(when time.Time) *discoveryv1.EndpointSlice {
		s := slice(discoveryv1.AddressTypeIPv4)
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: when.Format(time.RFC3339Nano)}
		return s
	}
	want := func(when string, services, endpoints, programmed float64) {
		t.Helper()
		got := []float64{value(t, m.servicesPending)[0], value(t, m.endpointsPending)[0], value(t, m.programming)[1]}
		if diff := cmp.Diff([]float64{services, endpoints, programmed}, got); diff != "" {
			t.Errorf("%s: pending services, endpoints, programmed (-want +got):\n%s", when, diff)
		}
	}
	tr.service(service(nil))
	tr.service(service(nil))
	tr.slice(changed(begin.Add(-time.Hour)), false)
	want("at the start", 1, 1, 0)
	tr.begin()
	tr.end(nil)
	want("written, and what changed before the start is not counted", 0, 0, 0)
	tr.slice(changed(begin.Add(time.Second)), false)
	tr.slice(changed(begin.Add(2*time.Second)), true)
	tr.begin()
	tr.slice(slice(discoveryv1.AddressTypeIPv6), false)
	tr.end(errors.New("table full"))
	want("the write failed", 0, 3, 0)
	tr.begin()
	tr.service(service(nil))
	at = begin.Add(5 * time.Second)
	tr.end(nil)
	want("written again", 1, 0, 1)
	if got := value(t, m.programming); got[0] != 4 {
		t.Errorf("programming took %v s, expected 4", got[0])
	}
	if services, slices := value(t, m.serviceChanges)[0], value(t, m.endpointChangesTotal)[0]; services != 3 || slices != 4 {
		t.Errorf("%v changes of Services, %v of EndpointSlices; expected 3 and 4", services, slices)
	}
}

func TestGaps(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	v4 := discoveryv1.AddressTypeIPv4
	inside := func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }
	outside := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	for name, tt := range map[string]struct {
		change func(*corev1.Service)
		slices []*discoveryv1.EndpointSlice
		want   gaps
	}{
		"policy Cluster":      {nil, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.1.1", "n2"))}, nil},
		"no endpoints at all": {inside, nil, gaps{}},
		"one here":            {inside, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1"), up("10.244.1.1", "n2"))}, gaps{}},
		"internal, elsewhere": {inside, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.1.1", "n2"))}, gaps{{internalPolicy, "IPv4"}: 1}},
		"external, elsewhere": {outside, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.1.1", "n2"))}, gaps{{externalPolicy, "IPv4"}: 1}},
		"two families": {func(s *corev1.Service) {
			outside(s)
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00::5")
		}, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1")), slice(discoveryv1.AddressTypeIPv6, up("fd00:1::1", "n2"))}, gaps{{externalPolicy, "IPv6"}: 1}},
		"the one here terminates": {outside, []*discoveryv1.EndpointSlice{slice(v4, ep{"10.244.0.1", "n1", false, true, true}, up("10.244.1.1", "n2"))}, gaps{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, gapsOf(service(tt.change), tt.slices, node)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
