// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/bpf"
)

// hint gives an endpoint hints for a node and a zone; - is none.
func hint(slice *discoveryv1.EndpointSlice, i int, node, zone string) {
	slice.Endpoints[i].Hints = &discoveryv1.EndpointHints{}
	if node != "-" {
		slice.Endpoints[i].Hints.ForNodes = []discoveryv1.ForNode{{Name: node}}
	}
	if zone != "-" {
		slice.Endpoints[i].Hints.ForZones = []discoveryv1.ForZone{{Name: zone}}
	}
}

// Expected is what kube-proxy does, see CategorizeEndpoints in k8s.io/kubernetes
// and KEP-3015.
func TestHints(t *testing.T) {
	for name, tt := range map[string]struct {
		zone string
		// hints are "NODE ZONE" of three endpoints: on this node, on one of the
		// same zone, on one of another zone.
		hints [3]string
		// conditions are those of the endpoints: ready, terminating.
		conditions string
		change     func(*corev1.Service)
		want       string
	}{
		"no hints":                        {zone: "z1", hints: [3]string{"- -", "- -", "- -"}, want: "1 2 3"},
		"zone":                            {zone: "z1", hints: [3]string{"- z1", "- z1", "- z2"}, want: "1 2"},
		"node before zone":                {zone: "z1", hints: [3]string{"n1 z1", "n2 z1", "n3 z2"}, want: "1"},
		"zone when none is for this node": {zone: "z1", hints: [3]string{"n9 z1", "n2 z1", "n3 z2"}, want: "1 2"},
		"one has no node":                 {zone: "z1", hints: [3]string{"n1 z1", "n2 z1", "- z2"}, want: "1 2"},
		"one has no zone":                 {zone: "z1", hints: [3]string{"- z1", "- z1", "- -"}, want: "1 2 3"},
		"none for this zone":              {zone: "z9", hints: [3]string{"- z1", "- z1", "- z2"}, want: "1 2 3"},
		"node without zone":               {hints: [3]string{"- z1", "- z1", "- z2"}, want: "1 2 3"},
		"not ready ones do not count":     {zone: "z2", hints: [3]string{"- -", "- -", "- z2"}, conditions: "--r", want: "3"},
		"none ready in the zone":          {zone: "z2", hints: [3]string{"- z1", "- z1", "- z2"}, conditions: "rr-", want: "1 2"},
		"terminating everywhere":          {zone: "z2", hints: [3]string{"- z1", "- z1", "- z2"}, conditions: "tt-", want: "1 2"},
		"policy Local wins": {
			zone: "z2", hints: [3]string{"n2 z1", "n2 z1", "n3 z2"}, want: "1",
			change: func(s *corev1.Service) {
				s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eps := []ep{up("10.0.0.1", "n1"), up("10.0.0.2", "n2"), up("10.0.0.3", "n3")}
			for i, c := range tt.conditions {
				eps[i].ready, eps[i].serving, eps[i].terminating = c == 'r', c != '-', c == 't'
			}
			s := slice(discoveryv1.AddressTypeIPv4, eps...)
			for i, text := range tt.hints {
				f := strings.Fields(text)
				hint(s, i, f[0], f[1])
			}
			facts := node
			facts.Zone = tt.zone
			tables, problems := Compile(Objects{Services: []*corev1.Service{service(tt.change)}, Slices: []*discoveryv1.EndpointSlice{s}}, facts)
			if len(problems) > 0 {
				t.Error(problems)
			}
			var have []string
			for _, target := range tables {
				for _, b := range target.Backends {
					have = append(have, strings.TrimPrefix(b.Addr.String(), "10.0.0."))
				}
			}
			if got := strings.Join(have, " "); got != tt.want {
				t.Errorf("backends %s, expected %s", got, tt.want)
			}
		})
	}
}

// Connections from other hosts do not follow hints where all nodes must choose
// among the same endpoints.
func TestHintsOfOtherHosts(t *testing.T) {
	external := bpf.Frontend{Addr: netip.MustParseAddr("198.51.100.1"), Port: 80, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
	for annotation, want := range map[string]int{"": 1, balancingAnnotation + "=maglev": 2, forwardingAnnotation + "=dsr": 2} {
		key, value, _ := strings.Cut(annotation, "=")
		endpoints := slice(discoveryv1.AddressTypeIPv4, up("10.0.0.1", "n1"), up("10.0.0.2", "n2"))
		hint(endpoints, 0, "-", "z1")
		hint(endpoints, 1, "-", "z2")
		facts := node
		facts.Zone = "z1"
		s := service(func(s *corev1.Service) {
			s.Spec.ExternalIPs, s.Annotations = []string{"198.51.100.1"}, map[string]string{key: value}
		})
		tables, _ := Compile(Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{endpoints}}, facts)
		if got := len(tables[external].Backends); got != want {
			t.Errorf("annotation %q: %d backends, expected %d", annotation, got, want)
		}
	}
}
