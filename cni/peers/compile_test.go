// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name string, age time.Duration, addresses, podCIDRs string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age))},
		Spec:       corev1.NodeSpec{PodCIDRs: strings.Fields(podCIDRs)},
	}
	for a := range strings.FieldsSeq(addresses) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestCompile(t *testing.T) {
	links := []Link{
		{Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}},
		{Index: 3, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}},
	}
	self := node("self", 0, "192.0.2.1 2001:db8::1", "10.0.0.0/24 fd00::/64")
	route := func(dst, via string, link int) Route {
		return Route{netip.MustParsePrefix(dst), netip.MustParseAddr(via), link}
	}
	for name, c := range map[string]struct {
		nodes    []*corev1.Node
		want     []Route
		problems []string
	}{
		"alone": {nodes: []*corev1.Node{self}},
		"both families": {
			nodes: []*corev1.Node{self, node("b", 0, "192.0.2.2 2001:db8::2", "10.0.1.0/24 fd00:0:0:1::/64")},
			want:  []Route{route("10.0.1.0/24", "192.0.2.2", 2), route("fd00:0:0:1::/64", "2001:db8::2", 2)},
		},
		"second link": {
			nodes: []*corev1.Node{self, node("b", 0, "198.51.100.9", "10.0.1.0/24")},
			want:  []Route{route("10.0.1.0/24", "198.51.100.9", 3)},
		},
		"no range yet": {nodes: []*corev1.Node{self, node("b", 0, "192.0.2.2", "")}},
		"elsewhere": {
			nodes:    []*corev1.Node{self, node("b", 0, "203.0.113.1", "10.0.1.0/24")},
			problems: []string{"node b: its addresses [203.0.113.1] are on no network of this node, its pods 10.0.1.0/24 cannot be reached"},
		},
		"range of another": {
			nodes: []*corev1.Node{node("late", 0, "192.0.2.3", "10.0.1.0/24"), node("b", time.Hour, "192.0.2.2", "10.0.1.0/24"), self},
			want:  []Route{route("10.0.1.0/24", "192.0.2.2", 2)}, problems: []string{"node late: pod range 10.0.1.0/24 is node b's already"},
		},
		"no range at all": {
			nodes:    []*corev1.Node{self, node("b", 0, "192.0.2.2", "10.0.1.0")},
			problems: []string{`node b: spec.podCIDRs "10.0.1.0": expected a range like 10.244.1.0/24`},
		},
		"address of this node": {
			nodes:    []*corev1.Node{self, node("b", 0, "192.0.2.1", "10.0.1.0/24")},
			problems: []string{"node b: its addresses [192.0.2.1] are on no network of this node, its pods 10.0.1.0/24 cannot be reached"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			routes, problems := Compile(c.nodes, "self", links)
			if diff := cmp.Diff(c.want, routes, cmp.Comparer(func(a, b Route) bool { return a == b })); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
