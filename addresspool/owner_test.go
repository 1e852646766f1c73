// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestOwnerIsFairAndStays(t *testing.T) {
	nodes := []string{"node-1", "node-2", "node-3", "node-4"}
	count, moved := map[string]int{}, 0
	addr := netip.MustParseAddr("192.0.2.0")
	const addrs = 1000
	for range addrs {
		addr = addr.Next()
		owner := Owner(addr, nodes)
		count[owner]++
		for _, lost := range nodes {
			rest := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == lost })
			if next := Owner(addr, rest); next != owner && lost != owner {
				moved++
			}
		}
	}
	for _, node := range nodes {
		if n := count[node]; n < addrs/4*8/10 || n > addrs/4*12/10 {
			t.Errorf("%s owns %d of %d", node, n, addrs)
		}
	}
	if moved > 0 {
		t.Errorf("%d addresses moved although their node stayed", moved)
	}
	if owner := Owner(addr, nil); owner != "" {
		t.Errorf("owner %s among nobody", owner)
	}
}

func TestOwned(t *testing.T) {
	ready, gone := true, false
	local := lb("local", "IPv4", has("192.0.2.1"), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	proxied := lb("proxied", "IPv4", has("192.0.2.2"))
	proxied.Status.LoadBalancer.Ingress[0].IPMode = new(corev1.LoadBalancerIPModeProxy)
	c := cluster{
		services: []*corev1.Service{local, proxied, lb("all", "IPv4", has("192.0.2.3", "10.1.1.1"))},
		nodes:    []string{"one", "two"},
		slices: func(_, service string) []*discoveryv1.EndpointSlice {
			if service != "local" {
				return nil
			}
			return []*discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{
				{NodeName: new("two"), Conditions: discoveryv1.EndpointConditions{Ready: &ready}},
				{NodeName: new("one"), Conditions: discoveryv1.EndpointConditions{Ready: &gone}},
			}}}
		},
	}
	pools := []Pool{pool("lan", "192.0.2.0/24")}
	all := append(c.owned("one", pools), c.owned("two", pools)...)
	slices.SortFunc(all, netip.Addr.Compare)
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.3")}
	if !slices.Equal(all, want) {
		t.Errorf("announced are %v, expected %v", all, want)
	}
	if !slices.Contains(c.owned("two", pools), want[0]) {
		t.Errorf("node two has the endpoint, and owns %v", c.owned("two", pools))
	}
}
