// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientfake "k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/bpf"
)

// Addresses of the backends, and of one that nobody has.
const first, second, mark = "10.244.0.7", "10.244.0.8", "10.244.0.9"

// shared is an API with two Services that lead to the first backend.
type shared struct {
	*clientfake.Clientset
	// web are the slices of the Service web, for TCP and UDP; another is the
	// one of a Service for TCP.
	web     []*discoveryv1.EndpointSlice
	another *discoveryv1.EndpointSlice
}

func newShared(t *testing.T) *shared {
	t.Helper()
	s := &shared{web: slicesFor(up(first, "n1")), another: ofAnother(slicesFor(up(first, "n1")))[0]}
	s.Clientset = clientfake.NewClientset(service(both), service(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs = "another", "10.96.0.6", []string{"10.96.0.6"}
	}))
	for i, slice := range append(s.web[:2:2], s.another) {
		slice.Name = fmt.Sprintf("slice-%d", i)
		if _, err := s.DiscoveryV1().EndpointSlices("a").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// set gives slices other endpoints.
func (s *shared) set(t *testing.T, slices []*discoveryv1.EndpointSlice, eps ...ep) {
	t.Helper()
	for _, slice := range slices {
		slice.Endpoints = slicesFor(eps...)[0].Endpoints
		if _, err := s.DiscoveryV1().EndpointSlices("a").Update(t.Context(), slice.DeepCopy(), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func tcpUse(service, backend string) bpf.Use {
	return bpf.Use{
		Service: netip.MustParseAddrPort(service), Backend: netip.MustParseAddrPort(backend + ":8080"), Protocol: bpf.ProtocolTCP,
	}
}

// TestRootStaleSocketsOfServices has clients of a backend that terminates, stops
// to serve, leaves one Service, and goes while no Proxy runs.
func TestRootStaleSocketsOfServices(t *testing.T) {
	s, api := newSite(t, first, second), newShared(t)
	stop := s.runs(t, api.Clientset)
	s.datapath.judged(t, tcpUse("10.96.0.5:80", second), true)
	direct, byUDP := s.connect(t, "tcp", first+":8080"), s.connect(t, "udp", "10.96.0.5:80")
	byWeb, byAnother := s.connect(t, "tcp", "10.96.0.5:80"), s.connect(t, "tcp", "10.96.0.6:80")

	api.set(t, api.web, ep{first, "n1", false, true, true}, up(second, "n1"))
	s.datapath.judged(t, tcpUse("10.96.0.5:80", second), false)
	byWeb.goesOn(t)
	byUDP.goesOn(t)

	api.set(t, api.web, ep{first, "n1", false, false, true}, up(second, "n1"))
	byUDP.isClosed(t)
	byWeb.goesOn(t)

	api.set(t, api.web, up(second, "n1"))
	api.set(t, []*discoveryv1.EndpointSlice{api.another}, up(first, "n1"), up(mark, "n1"))
	s.datapath.judged(t, tcpUse("10.96.0.6:80", mark), false)
	byWeb.goesOn(t)

	stop()
	api.set(t, []*discoveryv1.EndpointSlice{api.another}, up(second, "n1"))
	stop = s.runs(t, api.Clientset)
	byWeb.isClosed(t)
	byAnother.isClosed(t)
	direct.goesOn(t)
	stop()
}
