// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

func TestParseTarget(t *testing.T) {
	at := netip.MustParseAddrPort
	for text, want := range map[string]target{
		"10.96.0.1:443":          {addr: at("10.96.0.1:443")},
		"10.96.0.1:443/tcp":      {addr: at("10.96.0.1:443"), protocol: bpf.ProtocolTCP},
		"[fd00::1]:53/UDP":       {addr: at("[fd00::1]:53"), protocol: bpf.ProtocolUDP},
		"10.96.0.1:38412/sctp":   {addr: at("10.96.0.1:38412"), protocol: bpf.ProtocolSCTP},
		"[::ffff:10.96.0.1]:443": {addr: at("10.96.0.1:443")},
		"default/web":            {namespace: "default", name: "web"},
		"default/udp":            {namespace: "default", name: "udp"},
		"default/web:http":       {namespace: "default", name: "web", port: "http"},
		"default/web:80/udp":     {namespace: "default", name: "web", port: "80", protocol: bpf.ProtocolUDP},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := parseTarget(text)
			if err != nil || got != want {
				t.Errorf("got %+v, %v, expected %+v", got, err, want)
			}
		})
	}
	for _, text := range []string{"", "web", "10.96.0.1", "fd00::1", "10.96.0.1:443/dccp", "default/", "/web", "default/web:", "a/b/c", "a/b:c:d", "a:1/b"} {
		t.Run("refuses "+text, func(t *testing.T) {
			if got, err := parseTarget(text); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %+v, %v, expected an error of one line", got, err)
			}
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, text := range []string{"10.96.0.1:443/tcp", "[fd00::1]:53", "default/web:http/udp"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTarget(text)
		if err != nil {
			return
		}
		if again, err := parseTarget(got.String()); err != nil || again != got {
			t.Errorf("%q is %+v; its name %q is %+v, %v", text, got, got, again, err)
		}
	})
}

// example is a cluster with one Service, and the tables that come of it.
func example() (proxy.Tables, cluster) {
	c := cluster{facts: proxy.Facts{NodeName: "n1", NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	c.objects.Services = []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
		},
	}}
	tables, _ := proxy.Compile(c.own(), c.facts)
	for f, target := range tables {
		if f.Port == 80 || f.Port == 30080 {
			target.Backends = []bpf.Backend{
				{Addr: netip.MustParseAddr("10.244.0.5"), Port: 8080, Flags: bpf.BackendLocalPod},
				{Addr: netip.MustParseAddr("10.244.1.5"), Port: 8080},
				{Addr: netip.MustParseAddr("192.0.2.1"), Port: 8080, Flags: bpf.BackendLocalHost},
			}
			target.Affinity = 10800
			tables[f] = target
		}
	}
	return tables, c
}

func TestTargetFrontends(t *testing.T) {
	tables, c := example()
	for text, want := range map[string][]string{
		"10.96.0.5:80":         {"10.96.0.5:80/TCP"},
		"10.96.0.5:80/tcp":     {"10.96.0.5:80/TCP"},
		"192.0.2.1:30080":      {"192.0.2.1:30080/TCP", "192.0.2.1:30080/TCP"},
		"default/web:dns":      {"10.96.0.5:53/UDP"},
		"default/web:http":     {"10.96.0.5:80/TCP", "127.0.0.1:30080/TCP", "192.0.2.1:30080/TCP", "192.0.2.1:30080/TCP"},
		"default/web:80/tcp":   {"10.96.0.5:80/TCP", "127.0.0.1:30080/TCP", "192.0.2.1:30080/TCP", "192.0.2.1:30080/TCP"},
		"10.96.0.5:81":         {"no frontend 10.96.0.5:81 in the data path; this address has 10.96.0.5:53/UDP, 10.96.0.5:80/TCP"},
		"10.96.0.5:80/udp":     {"no frontend 10.96.0.5:80/udp in the data path; this address has 10.96.0.5:53/UDP, 10.96.0.5:80/TCP"},
		"10.96.0.6:80":         {"no frontend 10.96.0.6:80 in the data path; none has the address 10.96.0.6, see `proxy list`"},
		"default/api":          {"no Service default/api"},
		"default/web:https":    {"service default/web has no port https; its ports are 80 (http), 53 (dns)"},
		"default/web:http/udp": {"service default/web:http/udp has no frontend in the data path"},
	} {
		t.Run(text, func(t *testing.T) {
			asked, err := parseTarget(text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			found, err := asked.frontends(tables, c)
			sortFrontends(found)
			for _, f := range found {
				got = append(got, frontendName(f))
			}
			if err != nil {
				got = []string{err.Error()}
			}
			if !slices.Equal(got, want) {
				t.Error(cmp.Diff(want, got))
			}
		})
	}
}
