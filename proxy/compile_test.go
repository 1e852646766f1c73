// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/bpf"
)

var node = Facts{NodeName: "n1", NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}

func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	if change != nil {
		change(s)
	}
	return s
}

// ep is an endpoint: address, node and conditions in short.
type ep struct {
	addr, node                  string
	ready, serving, terminating bool
}

func slice(family discoveryv1.AddressType, eps ...ep) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range eps {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.addr}, NodeName: &e.node,
			Conditions: discoveryv1.EndpointConditions{Ready: &e.ready, Serving: &e.serving, Terminating: &e.terminating},
		})
	}
	return s
}

func up(addr, node string) ep { return ep{addr, node, true, true, false} }

// text writes tables as "FRONTEND/SCOPE -> BACKEND…", sorted, without those that
// refuse what is left of an address.
func text(tables Tables) []string {
	var out []string
	for f, target := range tables {
		if f.Port == 0 && len(target.Backends) == 0 {
			continue
		}
		line := fmt.Sprintf("%s %s/%d ->", netip.AddrPortFrom(f.Addr, f.Port), f.Protocol, f.Scope)
		for _, b := range target.Backends {
			line += fmt.Sprintf(" %s(%d)", netip.AddrPortFrom(b.Addr, b.Port), b.Flags)
		}
		if target.Affinity != 0 {
			line += fmt.Sprintf(" for %d s", target.Affinity)
		}
		if target.Sources != nil {
			line += fmt.Sprintf(" only %v", target.Sources)
		}
		if target.Silent {
			line += " silent"
		}
		if target.Maglev {
			line += " maglev"
		}
		if target.Direct {
			line += " direct"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// TestAffinityIsOfTheServicePort gives all frontends of a Service port the same number,
// in each run, and no other port the same.
func TestAffinityIsOfTheServicePort(t *testing.T) {
	s := service(func(s *corev1.Service) {
		s.Spec.SessionAffinity, s.Spec.Type = corev1.ServiceAffinityClientIP, corev1.ServiceTypeNodePort
		s.Spec.ClusterIPs, s.Spec.ExternalIPs = []string{"10.96.0.5", "fd00:96::5"}, []string{"198.51.100.1"}
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP, NodePort: 30443})
	})
	objects := Objects{Services: []*corev1.Service{s}}
	tables, _ := Compile(objects, node)
	ports := map[uint64]map[uint16]bool{}
	for f, target := range tables {
		if f.Port == 0 {
			continue
		}
		if ports[target.Service] == nil {
			ports[target.Service] = map[uint16]bool{}
		}
		ports[target.Service][f.Port] = true
	}
	want := map[uint64]map[uint16]bool{
		8714696714900469158:  {80: true, 30080: true},
		11819344877527524207: {443: true, 30443: true},
	}
	if diff := cmp.Diff(want, ports); diff != "" {
		t.Errorf("ports by number (-want +got):\n%s", diff)
	}
	s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	tables, _ = Compile(objects, node)
	for f, target := range tables {
		if target.Service != 0 {
			t.Errorf("without affinity %v has number %d", f, target.Service)
		}
	}
}

func TestCompile(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	v4 := discoveryv1.AddressTypeIPv4
	for name, tt := range map[string]struct {
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    []string
	}{
		"cluster IP": {
			service(nil), []*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)"},
		},
		"SCTP": {
			service(func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }),
			[]*discoveryv1.EndpointSlice{func() *discoveryv1.EndpointSlice {
				s := slice(v4, up("10.244.0.7", "n1"))
				s.Ports[0].Protocol = new(corev1.ProtocolSCTP)
				return s
			}()},
			[]string{"10.96.0.5:80 SCTP/0 -> 10.244.0.7:8080(1)"},
		},
		"endpoint of the host network": {
			service(nil), []*discoveryv1.EndpointSlice{slice(v4, up("192.0.2.1", "n1"))},
			[]string{"10.96.0.5:80 TCP/0 -> 192.0.2.1:8080(2)"},
		},
		"no endpoints": {service(nil), nil, []string{"10.96.0.5:80 TCP/0 ->"}},
		"not ready":    {service(nil), []*discoveryv1.EndpointSlice{slice(v4, ep{"10.244.0.7", "n1", false, false, false})}, []string{"10.96.0.5:80 TCP/0 ->"}},
		"terminating only when none is ready": {
			service(nil), []*discoveryv1.EndpointSlice{slice(v4, ep{"10.244.0.7", "n1", false, true, true})},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)"},
		},
		"terminating beside a ready one": {
			service(nil), []*discoveryv1.EndpointSlice{slice(v4, ep{"10.244.0.7", "n1", false, true, true}, up("10.244.0.8", "n1"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.8:8080(1)"},
		},
		"dual-stack": {
			service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.5", "fd00:96::5"} }),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1")), slice(discoveryv1.AddressTypeIPv6, up("fd00:244::7", "n1"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)", "[fd00:96::5]:80 TCP/0 -> [fd00:244::7]:8080(1)"},
		},
		"session affinity": {
			service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) for 10800 s"},
		},
		"session affinity with a time": {
			service(func(s *corev1.Service) {
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(3))}}
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) for 3 s"},
		},
		"node port": {
			service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)", "127.0.0.1:30080 TCP/0 -> 10.244.0.7:8080(1)",
				"192.0.2.1:30080 TCP/0 -> 10.244.0.7:8080(1)", "192.0.2.1:30080 TCP/1 -> 10.244.0.7:8080(1)",
			},
		},
		"external policy Local": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Spec.ExternalTrafficPolicy = []string{"198.51.100.1"}, corev1.ServiceExternalTrafficPolicyLocal
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)",
				"198.51.100.1:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)",
				"198.51.100.1:80 TCP/1 -> 10.244.0.7:8080(1)",
			},
		},
		"external policy Local without endpoints here": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Spec.ExternalTrafficPolicy = []string{"198.51.100.1"}, corev1.ServiceExternalTrafficPolicyLocal
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.1.7", "n2"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.1.7:8080(0)", "198.51.100.1:80 TCP/0 -> 10.244.1.7:8080(0)", "198.51.100.1:80 TCP/1 -> silent"},
		},
		"Maglev from other hosts": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Annotations = []string{"198.51.100.1"}, map[string]string{"slipway.dev/load-balancing": "maglev"}
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)",
				"198.51.100.1:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)",
				"198.51.100.1:80 TCP/1 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0) maglev",
			},
		},
		"direct server return": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Annotations = []string{"198.51.100.1"}, map[string]string{"slipway.dev/external-forwarding": "dsr"}
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0)",
				"198.51.100.1:80 TCP/0 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0) direct",
				"198.51.100.1:80 TCP/1 -> 10.244.0.7:8080(1) 10.244.1.7:8080(0) direct",
			},
		},
		"direct server return with policy Local": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Annotations = []string{"198.51.100.1"}, map[string]string{"slipway.dev/external-forwarding": "dsr"}
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)", "198.51.100.1:80 TCP/0 -> 10.244.0.7:8080(1)",
				"198.51.100.1:80 TCP/1 -> 10.244.0.7:8080(1)",
			},
		},
		"Maglev with one endpoint": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Annotations = []string{"198.51.100.1"}, map[string]string{"slipway.dev/load-balancing": "maglev"}
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)", "198.51.100.1:80 TCP/0 -> 10.244.0.7:8080(1)",
				"198.51.100.1:80 TCP/1 -> 10.244.0.7:8080(1)",
			},
		},
		"source ranges": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"198.51.100.1"}
				s.Spec.LoadBalancerSourceRanges = []string{" 192.0.2.7/24", "2001:db8::/32"}
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.9"}}
			}),
			nil,
			[]string{
				"10.96.0.5:80 TCP/0 ->", "198.51.100.1:80 TCP/0 ->", "198.51.100.1:80 TCP/1 ->",
				"198.51.100.9:80 TCP/0 -> only [192.0.2.0/24 2001:db8::/32]", "198.51.100.9:80 TCP/1 -> only [192.0.2.0/24 2001:db8::/32]",
			},
		},
		"internal policy Local": {
			service(func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))},
			[]string{"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)"},
		},
		"load balancer, VIP and proxy mode": {
			service(func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
					{IP: "198.51.100.2"}, {IP: "198.51.100.3", IPMode: new(corev1.LoadBalancerIPModeProxy)}, {Hostname: "x"},
				}
			}),
			nil, []string{"10.96.0.5:80 TCP/0 ->", "198.51.100.2:80 TCP/0 ->", "198.51.100.2:80 TCP/1 ->"},
		},
		"load balancer without NodePorts": {
			service(func(s *corev1.Service) {
				s.Spec.Type, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, new(false)
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.2", IPMode: new(corev1.LoadBalancerIPModeVIP)}}
			}),
			[]*discoveryv1.EndpointSlice{slice(v4, up("10.244.0.7", "n1"))},
			[]string{
				"10.96.0.5:80 TCP/0 -> 10.244.0.7:8080(1)",
				"198.51.100.2:80 TCP/0 -> 10.244.0.7:8080(1)", "198.51.100.2:80 TCP/1 -> 10.244.0.7:8080(1)",
			},
		},
		"one address twice": {
			service(func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"198.51.100.2"}
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.2"}}
			}),
			nil, []string{"10.96.0.5:80 TCP/0 ->", "198.51.100.2:80 TCP/0 ->", "198.51.100.2:80 TCP/1 ->"},
		},
		"headless":              {service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), nil, nil},
		"external name":         {service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), nil, nil},
		"headless by its label": {service(func(s *corev1.Service) { s.Labels = map[string]string{corev1.IsHeadlessService: ""} }), nil, nil},
		"another proxy":         {service(func(s *corev1.Service) { s.Labels = map[string]string{serviceProxyName: "x"} }), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tables, problems := Compile(Objects{Services: []*corev1.Service{tt.service}, Slices: tt.slices}, node)
			if len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			if diff := cmp.Diff(tt.want, text(tables)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompileTellsProblems(t *testing.T) {
	good := service(func(s *corev1.Service) { s.Name, s.Spec.ClusterIPs = "good", []string{"10.96.0.9"} })
	for name, tt := range map[string]struct {
		service *corev1.Service
		slice   *discoveryv1.EndpointSlice
		want    string
	}{
		"other protocol": {service(func(s *corev1.Service) { s.Spec.Ports[0].Protocol = "DCCP" }), nil,
			"Service a/web: spec.ports[0].protocol DCCP: only TCP, UDP and SCTP are served"},
		"port 0":           {service(func(s *corev1.Service) { s.Spec.Ports[0].Port = 0 }), nil, "spec.ports[0].port 0: expected 1 to 65535"},
		"node port beyond": {service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 70000 }), nil, "spec.ports[0].nodePort 70000: expected 1 to 65535"},
		"source ranges": {service(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8", "x"} }), nil,
			`spec.loadBalancerSourceRanges[1] "x": expected a range of addresses like 192.0.2.0/24`},
		"bad load balancer": {service(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "x"}, {IP: "fd00::1%eth0"}}
		}), nil, `status.loadBalancer.ingress[1] "fd00::1%eth0": expected an IP address`},
		"v4-mapped": {service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"fd00:96::5"} }), slice(discoveryv1.AddressTypeIPv6, up("::ffff:10.0.0.1", "n1")), `"::ffff:10.0.0.1": expected an address of type IPv6`},
		"slice of another family": {service(nil), slice(discoveryv1.AddressTypeIPv6, up("fd00::1", "n1")),
			"EndpointSlice a/web-1: addressType IPv6: the Service has no IPv6 address"},
		"slice of names": {service(nil), slice(discoveryv1.AddressTypeFQDN, up("x.example", "n1")),
			"EndpointSlice a/web-1: addressType FQDN: expected IPv4 or IPv6"},
		"external address of another family": {service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"fd00::1"} }), nil,
			`spec.externalIPs[0] "fd00::1": the Service has no IPv6 address`},
		"load balancing": {service(func(s *corev1.Service) { s.Annotations = map[string]string{"slipway.dev/load-balancing": "fair"} }), nil,
			`metadata.annotations[slipway.dev/load-balancing] "fair": expected random or maglev`},
		"forwarding": {service(func(s *corev1.Service) {
			s.Annotations = map[string]string{"slipway.dev/external-forwarding": "tunnel"}
		}), nil,
			`metadata.annotations[slipway.dev/external-forwarding] "tunnel": expected snat or dsr`},
		"no address": {service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"x"} }), nil,
			`spec.externalIPs[0] "x": expected an IP address`},
		"wrong family": {service(nil), slice(discoveryv1.AddressTypeIPv4, up("fd00::1", "n1")),
			`EndpointSlice a/web-1: endpoints[0].addresses[0] "fd00::1": expected an address of type IPv4`},
		"address of another Service": {service(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.9"} }), nil,
			"belongs to Service a/good already"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := Objects{Services: []*corev1.Service{tt.service, good}}
			if tt.slice != nil {
				objects.Slices = append(objects.Slices, tt.slice)
			}
			tables, problems := Compile(objects, node)
			if len(problems) != 1 || !strings.Contains(problems[0].Error(), tt.want) {
				t.Errorf("got %v, expected %q", problems, tt.want)
			}
			if _, ok := tables[bpf.Frontend{Addr: netip.MustParseAddr("10.96.0.9"), Port: 80, Protocol: bpf.ProtocolTCP}]; !ok {
				t.Error("the other Service is not served")
			}
		})
	}
}

// A Service may say otherwise than the agent's flag.
func TestCompileBalancing(t *testing.T) {
	facts := node
	external := bpf.Frontend{Addr: netip.MustParseAddr("198.51.100.1"), Port: 80, Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}
	for _, tt := range []struct {
		flag, annotation Balancing
		want             bool
	}{
		{BalanceRandom, "", false}, {BalanceMaglev, "", true}, {"", "", false}, {BalanceMaglev, BalanceRandom, false}, {BalanceRandom, BalanceMaglev, true},
	} {
		facts.Balancing = tt.flag
		s := service(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.1"} })
		if tt.annotation != "" {
			s.Annotations = map[string]string{balancingAnnotation: string(tt.annotation)}
		}
		endpoints := slice(discoveryv1.AddressTypeIPv4, up("10.244.0.7", "n1"), up("10.244.1.7", "n2"))
		tables, problems := Compile(Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{endpoints}}, facts)
		if got := tables[external].Maglev; got != tt.want || len(problems) > 0 {
			t.Errorf("flag %q, annotation %q: Maglev %v (%v), expected %v", tt.flag, tt.annotation, got, problems, tt.want)
		}
	}
}

// TestCompileRefusesOtherPorts looks for the entry that keeps packets to ports
// that a cluster address does not serve from being routed.
func TestCompileRefusesOtherPorts(t *testing.T) {
	tables, _ := Compile(Objects{Services: []*corev1.Service{service(nil)}}, node)
	target, there := tables[bpf.Frontend{Addr: netip.MustParseAddr("10.96.0.5")}]
	if !there || len(target.Backends) > 0 {
		t.Errorf("other ports lead to %v, %v", target, there)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("10.96.0.5", "10.244.0.7", "IPv4", int32(80), int32(8080))
	f.Add("x", "", "FQDN", int32(-1), int32(70000))
	f.Fuzz(func(t *testing.T, clusterIP, endpoint, family string, port, target int32) {
		s := service(func(s *corev1.Service) { s.Spec.ClusterIPs, s.Spec.Ports[0].Port = []string{clusterIP}, port })
		e := slice(discoveryv1.AddressType(family), up(endpoint, "n1"))
		e.Ports[0].Port = &target
		tables, _ := Compile(Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{e}}, node)
		for f, target := range tables {
			if !f.Addr.IsValid() || f.Port == 0 && (f.Protocol != 0 || len(target.Backends) > 0) {
				t.Errorf("frontend %v makes no sense", f)
			}
			for _, b := range target.Backends {
				if b.Addr.Is4() != f.Addr.Is4() || b.Port == 0 {
					t.Errorf("backend %v of %v makes no sense", b, f)
				}
			}
		}
	})
}

func TestNodePortsOfOtherNodes(t *testing.T) {
	facts := node
	facts.PeerAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}
	for name, c := range map[string]struct {
		policy corev1.ServiceExternalTrafficPolicy
		want   bool
	}{
		"cluster": {corev1.ServiceExternalTrafficPolicyCluster, true},
		"local":   {corev1.ServiceExternalTrafficPolicyLocal, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(func(s *corev1.Service) {
				s.Spec.Type, s.Spec.Ports[0].NodePort, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeNodePort, 30000, c.policy
			})
			tables, problems := Compile(Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{slice(discoveryv1.AddressTypeIPv4, up("10.0.0.1", "n2"))}}, facts)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			for _, scope := range []bpf.Scope{bpf.ScopeCluster, bpf.ScopeExternal} {
				f := bpf.Frontend{Addr: netip.MustParseAddr("192.0.2.2"), Port: 30000, Protocol: bpf.ProtocolTCP, Scope: scope}
				target, served := tables[f]
				if want := c.want && scope == bpf.ScopeCluster; served != want || (want && len(target.Backends) != 1) {
					t.Errorf("%v: served %v with %v", f, served, target)
				}
			}
		})
	}
}
