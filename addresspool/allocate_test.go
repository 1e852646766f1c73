// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// lb is a Service of type LoadBalancer; each is a second younger than the one
// before when sorted by name.
func lb(name string, families string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(name[0]), 0))}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	for _, f := range strings.Fields(families) {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPFamily(f))
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func has(addrs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, a := range addrs {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func note(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value) }
}

func class(name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name }
}

func policy(p corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &p }
}

func TestAllocate(t *testing.T) {
	manual := pool("manual", "198.51.100.1-198.51.100.2")
	manual.AutoAssign = false
	labelled := pool("labelled", "203.0.113.1")
	labelled.Selector = labels.SelectorFromSet(labels.Set{"zone": "a"})
	lan := pool("lan", "192.0.2.1-192.0.2.2", "2001:db8::1-2001:db8::2")
	for _, test := range []struct {
		name     string
		pools    []Pool
		services []*corev1.Service
		want     map[string]string
		problems []string
	}{
		{"no pool", nil, []*corev1.Service{lb("a", "IPv4")}, nil, nil},
		{"first come", []Pool{lan}, []*corev1.Service{lb("b", "IPv4"), lb("a", "IPv4")}, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}, nil},
		{"kept", []Pool{lan}, []*corev1.Service{lb("a", "IPv4"), lb("b", "IPv4", has("192.0.2.1"))}, map[string]string{"a": "192.0.2.2", "b": "192.0.2.1"}, nil},
		{"both families", []Pool{lan}, []*corev1.Service{lb("a", "IPv6 IPv4")}, map[string]string{"a": "2001:db8::1 192.0.2.1"}, nil},
		{
			"full", []Pool{lan}, []*corev1.Service{lb("a", "IPv4"), lb("b", "IPv4"), lb("c", "IPv4")},
			map[string]string{"a": "192.0.2.1", "b": "192.0.2.2", "c": ""}, []string{"default/c: no free IPv4 address in AddressPools lan"},
		},
		{
			"one family is enough for who prefers two", []Pool{pool("four", "192.0.2.1-192.0.2.9")},
			[]*corev1.Service{lb("a", "IPv4 IPv6", policy(corev1.IPFamilyPolicyPreferDualStack)), lb("b", "IPv4 IPv6", policy(corev1.IPFamilyPolicyRequireDualStack))},
			map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}, []string{"default/b: no free IPv6 address in AddressPools four"},
		},
		{
			"asked for", []Pool{lan, manual},
			[]*corev1.Service{lb("a", "IPv4"), lb("b", "IPv4", note(AddressesAnnotation, "192.0.2.1")), lb("c", "IPv4", note(PoolAnnotation, "manual"))},
			map[string]string{"a": "192.0.2.2", "b": "192.0.2.1", "c": "198.51.100.1"}, nil,
		},
		{
			"asked for in vain", []Pool{lan},
			[]*corev1.Service{
				lb("a", "IPv4", has("192.0.2.1")), lb("b", "IPv4", note(AddressesAnnotation, "192.0.2.1")),
				lb("c", "IPv4", note(AddressesAnnotation, "2001:db8::1")), lb("d", "IPv4", note(AddressesAnnotation, "x,192.0.9.9")),
				lb("e", "IPv4", note(PoolAnnotation, "other")),
			},
			map[string]string{"a": "192.0.2.1", "b": "", "c": "", "d": "", "e": ""},
			[]string{
				"default/b: asks for address 192.0.2.1: Service default/a has it",
				"default/c: asks for address 2001:db8::1: it is not of a family of the Service",
				`default/d: asks for address "x": expected an IP address`,
				"default/d: asks for address 192.0.9.9: no AddressPool that serves this Service has it",
				"default/e: no free IPv4 address in AddressPools (none serves this Service)",
			},
		},
		{"selected", []Pool{labelled}, []*corev1.Service{lb("a", "IPv4"), lb("b", "IPv4", func(s *corev1.Service) { s.Labels = map[string]string{"zone": "a"} })},
			map[string]string{"a": "", "b": "203.0.113.1"}, []string{"default/a: no free IPv4 address in AddressPools (none serves this Service)"}},
		{"of others", []Pool{lan}, []*corev1.Service{lb("a", "IPv4", class("metallb")), lb("b", "IPv4", has("10.9.9.9")), lb("c", "IPv4", class(Class))}, map[string]string{"c": "192.0.2.1"}, nil},
		{"not any more", []Pool{lan}, []*corev1.Service{lb("a", "IPv4", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, problems := Allocate(test.pools, test.services)
			have := map[string]string{}
			for name, addrs := range got {
				have[name.Name] = strings.Trim(fmt.Sprint(addrs), "[]")
			}
			if test.want == nil {
				test.want = map[string]string{}
			}
			if diff := cmp.Diff(test.want, have); diff != "" {
				t.Errorf("-want +have:\n%s", diff)
			}
			var says []string
			for _, p := range problems {
				says = append(says, p.Service.String()+": "+p.Message)
			}
			slices.Sort(says)
			if diff := cmp.Diff(test.problems, says); diff != "" {
				t.Errorf("problems -want +have:\n%s", diff)
			}
		})
	}
}

// Whatever happens, no address has two Services, all are from pools, and a
// Service keeps what it has.
func TestAllocateRandomly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	services := map[string]*corev1.Service{}
	pools := []Pool{pool("one", "192.0.2.0/28", "2001:db8::/125"), pool("two", "198.51.100.0/29")}
	for range 500 {
		name := string(rune('a' + r.IntN(26)))
		if _, ok := services[name]; ok && r.IntN(2) == 0 {
			delete(services, name)
		} else if !ok {
			services[name] = lb(name, []string{"IPv4", "IPv6", "IPv4 IPv6"}[r.IntN(3)])
			if r.IntN(4) == 0 {
				note(AddressesAnnotation, fmt.Sprintf("192.0.2.%d", r.IntN(20)))(services[name])
			}
		}
		var list []*corev1.Service
		for _, s := range services {
			list = append(list, s)
		}
		got, _ := Allocate(pools, list)
		owner := map[netip.Addr]string{}
		for _, s := range list {
			addrs := got[nameOf(s)]
			for _, addr := range addrs {
				if other, taken := owner[addr]; taken {
					t.Fatalf("%s has two owners, %s and %s", addr, other, s.Name)
				}
				owner[addr] = s.Name
				if !pools[0].Contains(addr) && !pools[1].Contains(addr) {
					t.Fatalf("%s is in no pool", addr)
				}
			}
			for _, in := range s.Status.LoadBalancer.Ingress {
				if !slices.Contains(addrs, netip.MustParseAddr(in.IP)) {
					t.Fatalf("%s has lost %s, it has %v now", s.Name, in.IP, addrs)
				}
			}
			s.Status = corev1.ServiceStatus{}
			for _, addr := range addrs {
				has(addr.String())(s)
			}
		}
	}
}
