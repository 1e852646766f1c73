// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// Class is the value of spec.loadBalancerClass that means us. Services
	// without a class are ours, too, when there is a pool.
	Class = "slipway.dev/address-pool"
	// PoolAnnotation on a Service names the pool to take addresses from.
	PoolAnnotation = "slipway.dev/address-pool"
	// AddressesAnnotation on a Service asks for addresses, separated by commas,
	// at most one of each family.
	AddressesAnnotation = "slipway.dev/addresses"
)

// Problem is a Service that cannot have what it asks for.
type Problem struct {
	Service types.NamespacedName
	Message string
}

// Allocation is which addresses each Service has. Services that are not ours
// are not in it; one that is ours and gets nothing has no addresses.
type Allocation map[types.NamespacedName][]netip.Addr

// Allocate hands out addresses. It is a pure function. What a Service has it
// keeps for as long as it may have it; then those are served that ask for an
// address, the oldest first; then the others.
func Allocate(pools []Pool, services []*corev1.Service) (Allocation, []Problem) {
	a := &allocator{pools: sortPools(pools), taken: map[netip.Addr]types.NamespacedName{}, out: Allocation{}}
	if len(pools) == 0 {
		return a.out, nil
	}
	services = slices.Clone(services)
	slices.SortFunc(services, func(x, y *corev1.Service) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(nameOf(x).String(), nameOf(y).String()))
	})
	services = slices.DeleteFunc(services, func(s *corev1.Service) bool { return !a.isOurs(s) })
	for _, s := range services {
		a.out[nameOf(s)] = nil
		a.keep(s)
	}
	for _, s := range services {
		a.request(s)
	}
	for _, s := range services {
		a.fill(s)
	}
	return a.out, a.problems
}

type allocator struct {
	pools    []Pool
	taken    map[netip.Addr]types.NamespacedName
	out      Allocation
	problems []Problem
}

func nameOf(s *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// isOurs leaves alone what has a class of somebody else, and what somebody else
// has given an address.
func (a *allocator) isOurs(s *corev1.Service) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		return *class == Class
	}
	return !slices.ContainsFunc(s.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
		addr, err := netip.ParseAddr(in.IP)
		return err != nil || !slices.ContainsFunc(a.pools, func(p Pool) bool { return p.Contains(addr) })
	})
}

// poolsFor are the pools that may serve a Service.
func (a *allocator) poolsFor(s *corev1.Service) []Pool {
	name, named := s.Annotations[PoolAnnotation]
	return slices.DeleteFunc(slices.Clone(a.pools), func(p Pool) bool {
		if named {
			return p.Name != name
		}
		return !p.AutoAssign && len(requested(s)) == 0 || !p.Selector.Matches(labels.Set(s.Labels))
	})
}

// requested are the addresses that a Service asks for, as they are written.
func requested(s *corev1.Service) []string {
	if text, ok := s.Annotations[AddressesAnnotation]; ok {
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	}
	if s.Spec.LoadBalancerIP != "" {
		return []string{s.Spec.LoadBalancerIP}
	}
	return nil
}

// may tells whether a Service may have an address now.
func (a *allocator) may(s *corev1.Service, addr netip.Addr) bool {
	if owner, taken := a.taken[addr]; taken && owner != nameOf(s) {
		return false
	}
	return wants(s, addr.Is4()) && !a.has(s, addr.Is4()) &&
		slices.ContainsFunc(a.poolsFor(s), func(p Pool) bool { return p.Contains(addr) })
}

func (a *allocator) take(s *corev1.Service, addr netip.Addr) {
	name := nameOf(s)
	a.taken[addr] = name
	a.out[name] = append(a.out[name], addr)
}

func wants(s *corev1.Service, v4 bool) bool {
	family := corev1.IPv6Protocol
	if v4 {
		family = corev1.IPv4Protocol
	}
	return slices.Contains(s.Spec.IPFamilies, family)
}

func (a *allocator) has(s *corev1.Service, v4 bool) bool {
	return slices.ContainsFunc(a.out[nameOf(s)], func(addr netip.Addr) bool { return addr.Is4() == v4 })
}

func (a *allocator) keep(s *corev1.Service) {
	asked := requested(s)
	for _, in := range s.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(in.IP)
		if err != nil || !a.may(s, addr) {
			continue
		}
		if len(asked) == 0 || slices.Contains(asked, in.IP) {
			a.take(s, addr)
		}
	}
}

func (a *allocator) request(s *corev1.Service) {
	for _, text := range requested(s) {
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			a.problem(s, "asks for address %q: expected an IP address", text)
		case slices.Contains(a.out[nameOf(s)], addr):
		case a.may(s, addr):
			a.take(s, addr)
		default:
			a.problem(s, "asks for address %s: %s", addr, a.whyNot(s, addr))
		}
	}
}

func (a *allocator) whyNot(s *corev1.Service, addr netip.Addr) string {
	switch owner, taken := a.taken[addr]; {
	case taken && owner != nameOf(s):
		return "Service " + owner.String() + " has it"
	case !wants(s, addr.Is4()):
		return "it is not of a family of the Service"
	case a.has(s, addr.Is4()):
		return "the Service has another one of this family"
	}
	return "no AddressPool that serves this Service has it"
}

// fill gives each family of a Service an address, unless it asks for some.
func (a *allocator) fill(s *corev1.Service) {
	if len(requested(s)) > 0 {
		return
	}
	for _, family := range s.Spec.IPFamilies {
		v4 := family == corev1.IPv4Protocol
		if !a.has(s, v4) && !a.fillFamily(s, v4) && a.missing(s, family) {
			a.problem(s, "no free %s address in AddressPools %s", family, names(a.poolsFor(s)))
		}
	}
}

func (a *allocator) fillFamily(s *corev1.Service, v4 bool) bool {
	for _, pool := range a.poolsFor(s) {
		addr, ok := pool.free(v4, func(addr netip.Addr) bool { _, taken := a.taken[addr]; return taken })
		if ok {
			a.take(s, addr)
			return true
		}
	}
	return false
}

// missing tells whether a Service needs an address of a family: one that only
// prefers two families is content with one.
func (a *allocator) missing(s *corev1.Service, family corev1.IPFamily) bool {
	prefers := s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack
	return !prefers || family == s.Spec.IPFamilies[len(s.Spec.IPFamilies)-1] && len(a.out[nameOf(s)]) == 0
}

func names(pools []Pool) string {
	if len(pools) == 0 {
		return "(none serves this Service)"
	}
	out := make([]string, len(pools))
	for i, p := range pools {
		out[i] = p.Name
	}
	return strings.Join(out, ", ")
}

func (a *allocator) problem(s *corev1.Service, format string, args ...any) {
	a.problems = append(a.problems, Problem{nameOf(s), fmt.Sprintf(format, args...)})
}
