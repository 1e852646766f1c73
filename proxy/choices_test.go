// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/bpf"
)

func TestChoices(t *testing.T) {
	v4 := discoveryv1.AddressTypeIPv4
	local := corev1.ServiceInternalTrafficPolicyLocal
	hinted := func(zone string, s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		for i := range s.Endpoints {
			s.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
		return s
	}
	for name, tt := range map[string]struct {
		change func(*corev1.Service)
		slices []*discoveryv1.EndpointSlice
		want   []string
	}{
		"ready and not": {nil, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1"), ep{"10.244.0.2", "n1", false, false, false})},
			[]string{"10.244.0.1", "10.244.0.2 is not ready"}},
		"terminating beside ready": {nil, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1"), ep{"10.244.0.2", "n1", false, true, true})},
			[]string{"10.244.0.1", "10.244.0.2 terminates, and others are ready"}},
		"terminating alone": {nil, []*discoveryv1.EndpointSlice{slice(v4, ep{"10.244.0.2", "n1", false, true, true})}, []string{"10.244.0.2"}},
		"policy Local": {func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local },
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1"), up("10.244.1.1", "n2"))},
			[]string{"10.244.0.1", "10.244.1.1 is not on this node, and internalTrafficPolicy is Local"}},
		"other family": {nil, []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.1", "n1")), slice(discoveryv1.AddressTypeIPv6, up("fd00::1", "n1"))},
			[]string{"10.244.0.1", "fd00::1 is of the other address family"}},
		"zones": {nil, []*discoveryv1.EndpointSlice{hinted("", slice(v4, up("10.244.0.1", "n1"))), hinted("west", slice(v4, up("10.244.1.1", "n2")))},
			[]string{"10.244.0.1", "10.244.1.1 is meant for zone west"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(tt.change)
			var got []string
			for _, c := range Choices(Objects{Services: []*corev1.Service{s}, Slices: tt.slices}, node, web) {
				text := c.Backend.Addr.String()
				if c.Unused != "" {
					text += " " + c.Unused
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

var web = bpf.Frontend{Addr: frontend(5).Addr, Port: 80, Protocol: bpf.ProtocolTCP}

// TestChoicesAreThoseOfCompile compares both on random endpoints.
func TestChoicesAreThoseOfCompile(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	local := corev1.ServiceInternalTrafficPolicyLocal
	for range 500 {
		s := service(func(s *corev1.Service) {
			s.Spec.Ports[0].NodePort = 30080
			if rnd.IntN(2) == 0 {
				s.Spec.InternalTrafficPolicy = &local
			}
			if rnd.IntN(2) == 0 {
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}
		})
		var eps []ep
		for i := range rnd.IntN(5) {
			eps = append(eps, ep{fmt.Sprintf("10.244.0.%d", i), fmt.Sprintf("n%d", 1+rnd.IntN(2)), rnd.IntN(2) == 0, rnd.IntN(2) == 0, rnd.IntN(2) == 0})
		}
		made := slice(discoveryv1.AddressTypeIPv4, eps...)
		for i := range made.Endpoints {
			made.Endpoints[i].Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: fmt.Sprintf("n%d", 1+rnd.IntN(2))}}}
		}
		objects := Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{made}}
		tables, _ := Compile(objects, node)
		for f, target := range tables {
			used := []bpf.Backend{}
			for _, c := range Choices(objects, node, f) {
				if c.Unused == "" {
					used = append(used, c.Backend)
				}
			}
			if !slices.Equal(used, target.Backends) {
				t.Fatalf("%v: choices %v, compiled %v", f, used, target.Backends)
			}
		}
	}
}
