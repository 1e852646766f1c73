// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/bpf"
)

// TestHeadlessSlice leaves out slices that are labelled as none of a proxy's, also
// after the informer has packed them.
func TestHeadlessSlice(t *testing.T) {
	s := slice(discoveryv1.AddressTypeIPv4, up("10.244.0.5", "n1"))
	s.Labels[corev1.IsHeadlessService] = ""
	if _, err := lean(s); err != nil {
		t.Fatal(err)
	}
	tables, problems := Compile(Objects{Services: []*corev1.Service{service(nil)}, Slices: []*discoveryv1.EndpointSlice{s}}, Facts{NodeName: "n1"})
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	for f, target := range tables {
		if f.Scope == bpf.ScopeCluster && len(target.Backends) > 0 {
			t.Errorf("%v leads to %v, expected nothing", f, target.Backends)
		}
	}
}
