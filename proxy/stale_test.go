// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/bpf"
)

// both gives the Service of the tests its port for UDP, too.
func both(s *corev1.Service) {
	s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 80, Protocol: corev1.ProtocolUDP})
}

// slicesFor gives the endpoints to the Service of the tests, for both protocols.
func slicesFor(eps ...ep) []*discoveryv1.EndpointSlice {
	tcp, udp := slice(discoveryv1.AddressTypeIPv4, eps...), slice(discoveryv1.AddressTypeIPv4, eps...)
	udp.Ports[0].Protocol = new(corev1.ProtocolUDP)
	return []*discoveryv1.EndpointSlice{tcp, udp}
}

// ofAnother makes a slice that of another Service.
func ofAnother(all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	for _, s := range all {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: "another"}
	}
	return all
}

func onPort(port int32, all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	for _, s := range all {
		s.Ports[0].Port = &port
	}
	return all
}

func localPod(ip string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"},
		Status:     corev1.PodStatus{Phase: phase, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

// TestStale asks about sockets that came to 10.244.0.7:8080 by the Service.
func TestStale(t *testing.T) {
	const neither, udp, tcpAndUDP = "", "UDP", "TCP UDP"
	local := corev1.ServiceInternalTrafficPolicyLocal
	other := up("10.244.0.8", "n1")
	ending := ep{"10.244.0.7", "n1", false, true, true}
	for name, tt := range map[string]struct {
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		pods    []*corev1.Pod
		want    string
	}{
		"ready":                              {service: service(both), slices: slicesFor(up("10.244.0.7", "n1"), other), want: neither},
		"gone":                               {service: service(both), slices: slicesFor(other), want: tcpAndUDP},
		"the last one is gone":               {service: service(both), want: tcpAndUDP},
		"its address with another port":      {service: service(both), slices: onPort(9090, slicesFor(up("10.244.0.7", "n1"))), want: udp},
		"terminating beside a ready one":     {service: service(both), slices: slicesFor(ending, other), want: neither},
		"terminating, the only one":          {service: service(both), slices: slicesFor(ending), want: neither},
		"terminating and not serving":        {service: service(both), slices: slicesFor(ep{"10.244.0.7", "n1", false, false, true}, other), want: udp},
		"not ready":                          {service: service(both), slices: slicesFor(ep{"10.244.0.7", "n1", false, false, false}, other), want: udp},
		"endpoint of another Service":        {service: service(both), slices: append(slicesFor(other), ofAnother(slicesFor(up("10.244.0.7", "n1")))...), want: udp},
		"pod of this node without its label": {service: service(both), slices: slicesFor(other), pods: []*corev1.Pod{localPod("10.244.0.7", corev1.PodRunning)}, want: udp},
		"pod of this node has failed":        {service: service(both), slices: slicesFor(other), pods: []*corev1.Pod{localPod("10.244.0.7", corev1.PodFailed)}, want: tcpAndUDP},
		"other ones are nearer": {
			service: service(func(s *corev1.Service) { both(s); s.Spec.InternalTrafficPolicy = &local }),
			slices:  slicesFor(up("10.244.0.7", "n2"), other), want: neither,
		},
		"Service deleted": {want: udp},
		"Service deleted, pod of this node goes on": {
			pods: []*corev1.Pod{localPod("10.244.0.7", corev1.PodRunning)}, want: neither,
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := Objects{Slices: tt.slices, Pods: tt.pods}
			if tt.service != nil {
				objects.Services = append(objects.Services, tt.service)
			}
			tables, problems := Compile(objects, node)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			got := ""
			for _, protocol := range []bpf.Protocol{bpf.ProtocolTCP, bpf.ProtocolUDP} {
				use := bpf.Use{
					Service: netip.MustParseAddrPort("10.96.0.5:80"), Backend: netip.MustParseAddrPort("10.244.0.7:8080"), Protocol: protocol,
				}
				target, served := tables[bpf.Frontend{Addr: use.Service.Addr(), Port: use.Service.Port(), Protocol: protocol}]
				if !Stale(use, target, served, func() map[netip.Addr]bool { return present(tt.slices, tt.pods) }) {
					continue
				}
				if got != "" {
					got += " "
				}
				got += protocol.String()
			}
			if got != tt.want {
				t.Errorf("stale are %q, expected %q", got, tt.want)
			}
		})
	}
}

// TestStaleFlow asks about datagrams of another host that came to 10.244.0.7:8080
// by an external address.
func TestStaleFlow(t *testing.T) {
	outside := service(func(s *corev1.Service) { both(s); s.Spec.ExternalIPs = []string{"203.0.113.5"} })
	other := up("10.244.0.8", "n1")
	for name, tt := range map[string]struct {
		services []*corev1.Service
		slices   []*discoveryv1.EndpointSlice
		want     bool
	}{
		"ready":           {[]*corev1.Service{outside}, slicesFor(up("10.244.0.7", "n1"), other), false},
		"gone":            {[]*corev1.Service{outside}, slicesFor(other), true},
		"terminating":     {[]*corev1.Service{outside}, slicesFor(ep{"10.244.0.7", "n1", false, true, true}, other), false},
		"not serving":     {[]*corev1.Service{outside}, slicesFor(ep{"10.244.0.7", "n1", false, false, true}, other), true},
		"Service deleted": {nil, slicesFor(up("10.244.0.7", "n1")), true},
	} {
		t.Run(name, func(t *testing.T) {
			tables, _ := Compile(Objects{Services: tt.services, Slices: tt.slices}, node)
			use := bpf.Use{
				Service: netip.MustParseAddrPort("203.0.113.5:80"), Backend: netip.MustParseAddrPort("10.244.0.7:8080"), Protocol: bpf.ProtocolUDP,
			}
			target, served := tables[bpf.Frontend{Addr: use.Service.Addr(), Port: 80, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}]
			if got := staleFlow(use, target, served); got != tt.want {
				t.Errorf("stale is %v, expected %v", got, tt.want)
			}
		})
	}
}
