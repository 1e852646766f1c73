// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/proxy"
)

func TestDestinations(t *testing.T) {
	facts := proxy.Facts{NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
	outside := Client{Addr: netip.MustParseAddr("192.0.2.9")}
	v4 := Client{Pod: pod("client", "10.244.0.7", "n1")}
	for name, tt := range map[string]struct {
		from   Client
		port   string
		change func(*corev1.Service)
		want   string
	}{
		"all ports, both families": {Client{}, "", nil, "10.96.0.5:80/TCP [fd00::5]:80/TCP 10.96.0.5:53/UDP [fd00::5]:53/UDP"},
		"a family that a pod has":  {v4, "", nil, "10.96.0.5:80/TCP 10.96.0.5:53/UDP"},
		"a port by name":           {v4, "dns", nil, "10.96.0.5:53/UDP"},
		"a port by number":         {v4, "80", nil, "10.96.0.5:80/TCP"},
		"no such port":             {v4, "443", nil, "service a/web has no port 443 of the client's family; its ports are 80 http, 53 dns"},
		"NodePort":                 {outside, "", nil, "192.0.2.1:30080/TCP"},
		"load balancer": {outside, "http", func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.200"}}
		}, "192.0.2.200:80/TCP"},
		"nothing for other hosts": {outside, "", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 },
			"service a/web has no address for other hosts of the client's family: none of a load balancer, no external IP, no NodePort"},
		"headless": {v4, "", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone },
			"service a/web is headless: DNS answers with the addresses of its endpoints; ask for one of these"},
		"a name": {v4, "", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		},
			"service a/web is only a name: DNS answers with example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{
				ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5", "fd00::5"},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
			}}
			if tt.change != nil {
				tt.change(s)
			}
			found, err := Destinations(s, tt.port, tt.from, facts)
			var texts []string
			for _, d := range found {
				texts = append(texts, d.String())
			}
			got := strings.Join(texts, " ")
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
