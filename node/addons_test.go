// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestDNSObjects(t *testing.T) {
	service := dnsService(valid())
	if service.Spec.ClusterIP != "10.96.0.10" || len(service.Spec.ClusterIPs) != 2 {
		t.Errorf("addresses are %v", service.Spec.ClusterIPs)
	}
	slices := dnsSlices("n1", []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:10:244::1")})
	if len(slices) != 2 || slices[0].AddressType != discoveryv1.AddressTypeIPv4 || slices[1].AddressType != discoveryv1.AddressTypeIPv6 {
		t.Fatalf("slices are %v", slices)
	}
	for _, s := range slices {
		if s.Labels[discoveryv1.LabelServiceName] != service.Name || len(s.Ports) != 2 || *s.Ports[0].Name != service.Spec.Ports[0].Name {
			t.Errorf("%s does not belong to the Service", s.Name)
		}
	}
}
