// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rule is one path of an Ingress; its backend is the Service named name.
type rule struct {
	host, path string
	kind       networkingv1.PathType
	name       string
}

const (
	exact     = networkingv1.PathTypeExact
	underPath = networkingv1.PathTypePrefix
)

func ingressOf(name string, age time.Duration, rules ...rule) *networkingv1.Ingress {
	ing := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{
		Namespace: "a", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
	}}
	ing.Spec.IngressClassName = new(ClassName)
	for _, r := range rules {
		ing.Spec.Rules = append(ing.Spec.Rules, networkingv1.IngressRule{
			Host: r.host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: r.path, PathType: &r.kind, Backend: to(r.name)}},
			}},
		})
	}
	return ing
}

func to(service string) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: service, Port: networkingv1.ServiceBackendPort{Number: 80},
	}}
}

// world makes a Service with one endpoint for each name.
func world(ingresses []*networkingv1.Ingress, services ...string) Objects {
	o := Objects{Ingresses: ingresses, Classes: []*networkingv1.IngressClass{Class(true)}}
	for i, name := range services {
		o.Services = append(o.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		})
		o.Slices = append(o.Slices, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			Ports:      []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.244.0.%d", i+1)}}},
		})
	}
	return o
}

func matched(t *Table, host, path string) string {
	b := t.Match(host, path)
	if b == nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.Service, "a/"), ":80")
}

// TestPathMatching is the table of the Ingress documentation:
// https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
func TestPathMatching(t *testing.T) {
	for _, tt := range []struct {
		kind    networkingv1.PathType
		paths   []string
		request string
		want    string
	}{
		{underPath, []string{"/"}, "/any/path", "/"},
		{exact, []string{"/foo"}, "/foo", "/foo"},
		{exact, []string{"/foo"}, "/bar", ""},
		{exact, []string{"/foo"}, "/foo/", ""},
		{exact, []string{"/foo/"}, "/foo", ""},
		{underPath, []string{"/foo"}, "/foo", "/foo"},
		{underPath, []string{"/foo"}, "/foo/", "/foo"},
		{underPath, []string{"/foo/"}, "/foo", "/foo/"},
		{underPath, []string{"/foo/"}, "/foo/", "/foo/"},
		{underPath, []string{"/aaa/bb"}, "/aaa/bbb", ""},
		{underPath, []string{"/aaa/bbb"}, "/aaa/bbb", "/aaa/bbb"},
		{underPath, []string{"/aaa/bbb/"}, "/aaa/bbb", "/aaa/bbb/"},
		{underPath, []string{"/aaa/bbb"}, "/aaa/bbb/", "/aaa/bbb"},
		{underPath, []string{"/aaa/bbb"}, "/aaa/bbb/ccc", "/aaa/bbb"},
		{underPath, []string{"/aaa/bbb"}, "/aaa/bbbxyz", ""},
		{underPath, []string{"/", "/aaa"}, "/aaa/ccc", "/aaa"},
		{underPath, []string{"/", "/aaa", "/aaa/bbb"}, "/aaa/bbb", "/aaa/bbb"},
		{underPath, []string{"/", "/aaa", "/aaa/bbb"}, "/ccc", "/"},
		{underPath, []string{"/aaa"}, "/ccc", ""},
	} {
		t.Run(fmt.Sprint(tt.kind, tt.paths, tt.request), func(t *testing.T) {
			var rules []rule
			var names []string
			for i, path := range tt.paths {
				names = append(names, fmt.Sprint("s", i))
				rules = append(rules, rule{"", path, tt.kind, names[i]})
			}
			table, problems := Compile(world([]*networkingv1.Ingress{ingressOf("i", 0, rules...)}, names...))
			want := ""
			if i := slices.Index(tt.paths, tt.want); i >= 0 {
				want = names[i]
			}
			if got := matched(table, "example.org", tt.request); got != want || len(problems) > 0 {
				t.Errorf("got %q, expected %q (%v)", got, want, problems)
			}
		})
	}
}

func TestHostMatching(t *testing.T) {
	table, _ := Compile(world([]*networkingv1.Ingress{ingressOf("i", 0,
		rule{"foo.bar.com", "/", underPath, "exact"},
		rule{"*.bar.com", "/", underPath, "wild"},
		rule{"only.bar.com", "/path", underPath, "path"},
		rule{"", "/", underPath, "any"},
	)}, "exact", "wild", "path", "any"))
	for host, want := range map[string]string{
		"foo.bar.com": "exact", "FOO.bar.com:8080": "exact", "foo.bar.com.": "exact", "x.bar.com": "wild",
		"bar.com": "any", ".bar.com": "any", "a.b.bar.com": "any", "other.org": "any", "": "any", "[::1]:80": "any",
		// A host with routes of its own takes nothing from the wildcard.
		"only.bar.com": "any",
	} {
		if got := matched(table, host, "/x"); got != want {
			t.Errorf("%q: got %q, expected %q", host, got, want)
		}
	}
}

func TestOlderIngressWins(t *testing.T) {
	objects := world([]*networkingv1.Ingress{
		ingressOf("young", time.Minute, rule{"h", "/", underPath, "young"}),
		ingressOf("old", time.Hour, rule{"h", "/", underPath, "old"}),
	}, "young", "old")
	table, problems := Compile(objects)
	if got := matched(table, "h", "/"); got != "old" {
		t.Errorf("got %q", got)
	}
	if len(problems) != 1 || problems[0].Ingress.Name != "young" || problems[0].Reason != "Conflict" {
		t.Errorf("problems: %v", problems)
	}
}

func TestClasses(t *testing.T) {
	other := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "x"}}
	for name, tt := range map[string]struct {
		class      *string
		annotation string
		isDefault  bool
		want       bool
	}{
		"our class":                   {new(ClassName), "", false, true},
		"another class":               {new("nginx"), "", true, false},
		"unknown class":               {new("x"), "", true, false},
		"none, ours is default":       {nil, "", true, true},
		"none, ours is not default":   {nil, "", false, false},
		"legacy annotation":           {nil, ClassName, false, true},
		"legacy annotation elsewhere": {nil, "nginx", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			ing := ingressOf("i", 0)
			ing.Spec.IngressClassName = tt.class
			if tt.annotation != "" {
				ing.Annotations = map[string]string{legacyClass: tt.annotation}
			}
			if got := Ours(ing, []*networkingv1.IngressClass{Class(tt.isDefault), other}); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	withTLS := ingressOf("tls", 0)
	withTLS.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"h"}, SecretName: "none"}}
	byResource := ingressOf("resource", 0)
	byResource.Spec.DefaultBackend = &networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{}}
	noPort := ingressOf("port", 0, rule{"h", "/", underPath, "web"})
	noPort.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Port = networkingv1.ServiceBackendPort{Name: "grpc"}
	for _, tt := range []struct {
		ing  *networkingv1.Ingress
		want string
	}{
		{ingressOf("service", 0, rule{"h", "/", underPath, "none"}), `spec.rules[0].http.paths[0].backend.service.name "none": no such Service in namespace a`},
		{noPort, `service.port "grpc": Service a/web has no such port`},
		{ingressOf("path", 0, rule{"h", "x", underPath, "web"}), `.path "x": expected a path that begins with /`},
		{withTLS, `spec.tls[0].secretName "none": no Secret of type kubernetes.io/tls`},
		{byResource, "spec.defaultBackend.resource: only Services are served"},
	} {
		t.Run(tt.ing.Name, func(t *testing.T) {
			good := ingressOf("good", 0, rule{"good", "/", underPath, "web"})
			table, problems := Compile(world([]*networkingv1.Ingress{tt.ing, good}, "web"))
			if len(problems) != 1 || !strings.Contains(problems[0].Message, tt.want) {
				t.Errorf("got %v, expected %q", problems, tt.want)
			}
			if matched(table, "good", "/") != "web" {
				t.Error("the other Ingress is not served")
			}
		})
	}
}

func TestEndpointsOfOneFamily(t *testing.T) {
	got := oneFamily([]netip.AddrPort{
		netip.MustParseAddrPort("[fd00::1]:80"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.1:80"),
	})
	if fmt.Sprint(got) != "[10.0.0.1:80 10.0.0.2:80]" {
		t.Errorf("got %v", got)
	}
	if got := oneFamily([]netip.AddrPort{netip.MustParseAddrPort("[fd00::1]:80")}); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestMatchAgainstModel compares the table with a plain search through all
// rules.
func TestMatchAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	path := func() string {
		out := ""
		for range rnd.IntN(4) {
			out += "/" + pick("a", "b", "ab")
		}
		return out + pick("/", "")
	}
	for range 300 {
		var rules []rule
		var names []string
		for i := range 12 {
			names = append(names, fmt.Sprint("s", i))
			p := path()
			if p == "" {
				p = "/"
			}
			rules = append(rules, rule{pick("", "x.org", "*.org", "*.x.org", "a.x.org"), p, []networkingv1.PathType{exact, underPath}[rnd.IntN(2)], names[i]})
		}
		table, _ := Compile(world([]*networkingv1.Ingress{ingressOf("i", 0, rules...)}, names...))
		for range 50 {
			host, request := pick("x.org", "a.x.org", "b.x.org", "y.org", "z"), path()
			if got, want := matched(table, host, request), model(rules, host, request); got != want {
				t.Fatalf("%q %q: got %q, expected %q of %v", host, request, got, want, rules)
			}
		}
	}
}

// model looks at every rule: the host's own, or those of its wildcard, or
// those of any host; then the exact path, then the longest prefix.
func model(rules []rule, host, request string) string {
	of := func(h string) (out []rule) {
		for _, r := range rules {
			if r.host == h {
				out = append(out, r)
			}
		}
		return out
	}
	set, specific := of(host), true
	if len(set) == 0 {
		if _, parent, ok := strings.Cut(host, "."); ok {
			set = of("*." + parent)
		}
	}
	if len(set) == 0 {
		set, specific = of(""), false
	}
	best, length := "", -1
	for _, r := range set {
		if r.kind == exact && r.path == request {
			return r.name
		}
	}
	for _, r := range set {
		p := strings.TrimRight(r.path, "/")
		if r.kind == underPath && (request == p || strings.HasPrefix(request, p+"/")) && len(p) > length {
			best, length = r.name, len(p)
		}
	}
	if best == "" && specific {
		for _, r := range of("") {
			if r.kind == underPath && r.path == "/" {
				return r.name
			}
		}
	}
	return best
}

func FuzzMatch(f *testing.F) {
	table, _ := Compile(world([]*networkingv1.Ingress{ingressOf("i", 0,
		rule{"x.org", "/a", underPath, "s0"}, rule{"*.org", "/", exact, "s1"}, rule{"", "/b/", underPath, "s2"},
	)}, "s0", "s1", "s2"))
	f.Add("x.org", "/a")
	f.Add("[::1]:", "//")
	f.Fuzz(func(t *testing.T, host, path string) {
		if b := table.Match(host, path); b != nil && len(b.Endpoints) != 1 {
			t.Errorf("%q %q leads to %v", host, path, b)
		}
		table.certificate(host)
	})
}

func BenchmarkMatch(b *testing.B) {
	var rules []rule
	for i := range 1000 {
		rules = append(rules, rule{fmt.Sprintf("h%d.org", i), "/a/b", underPath, "s0"})
	}
	table, _ := Compile(world([]*networkingv1.Ingress{ingressOf("i", 0, rules...)}, "s0"))
	b.ReportAllocs()
	for b.Loop() {
		table.Match("h500.org", "/a/b/c")
	}
}
