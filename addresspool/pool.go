// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Pool is an AddressPool that was read.
type Pool struct {
	Name string
	// Ranges are what it has, in the order of the object.
	Ranges []Range
	// AutoAssign tells whether Services that do not name it get addresses.
	AutoAssign bool
	// Selector selects the Services by their labels.
	Selector labels.Selector
}

// Range is all addresses from First to Last.
type Range struct{ First, Last netip.Addr }

// Contains tells whether addr is in the range.
func (r Range) Contains(addr netip.Addr) bool {
	return addr.Is4() == r.First.Is4() && r.First.Compare(addr) <= 0 && addr.Compare(r.Last) <= 0
}

// String returns the range as FIRST-LAST.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// ParseRange reads a range like 192.0.2.10-192.0.2.20, 192.0.2.0/28 or 2001:db8::7.
func ParseRange(text string) (Range, error) {
	expected := fmt.Errorf("%q: expected a range like 192.0.2.10-192.0.2.20, 192.0.2.0/28 or 2001:db8::7", text)
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if prefix != prefix.Masked() {
			return Range{}, fmt.Errorf("%q: has bits of a host, expected %s", text, prefix.Masked())
		}
		return Range{prefix.Addr(), lastOf(prefix)}, nil
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := netip.ParseAddr(strings.TrimSpace(from))
	if err != nil {
		return Range{}, expected
	}
	last, err := netip.ParseAddr(strings.TrimSpace(to))
	if err != nil || first.Is4() != last.Is4() || first.Zone()+last.Zone() != "" || first.Is4In6() || last.Is4In6() {
		return Range{}, expected
	}
	if last.Less(first) {
		return Range{}, fmt.Errorf("%q: ends before it begins", text)
	}
	return Range{first, last}, nil
}

func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// spec is that of an AddressPool object.
type spec struct {
	Addresses       []string              `json:"addresses"`
	AutoAssign      *bool                 `json:"autoAssign"`
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector"`
}

// Read reads an AddressPool object. The error names each field that makes no
// sense; a range that does is in the pool all the same.
func Read(object *unstructured.Unstructured) (Pool, error) {
	pool := Pool{Name: object.GetName(), AutoAssign: true, Selector: labels.Everything()}
	content, _, _ := unstructured.NestedMap(object.Object, "spec")
	var s spec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &s); err != nil {
		return pool, fmt.Errorf("spec: %w", err)
	}
	var errs []error
	for i, text := range s.Addresses {
		r, err := ParseRange(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.addresses[%d] %w", i, err))
			continue
		}
		pool.Ranges = append(pool.Ranges, r)
	}
	if s.AutoAssign != nil {
		pool.AutoAssign = *s.AutoAssign
	}
	if s.ServiceSelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(s.ServiceSelector)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.serviceSelector: %w", err))
			selector = labels.Nothing()
		}
		pool.Selector = selector
	}
	return pool, errors.Join(errs...)
}

// Contains tells whether addr is one of the pool's.
func (p Pool) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(addr) })
}

// free returns the first address of a family that is not taken.
func (p Pool) free(v4 bool, taken func(netip.Addr) bool) (netip.Addr, bool) {
	for _, r := range p.Ranges {
		if r.First.Is4() != v4 {
			continue
		}
		for addr := r.First; addr.IsValid() && r.Contains(addr); addr = addr.Next() {
			if !taken(addr) {
				return addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// sortPools puts pools into the order in which they are used.
func sortPools(pools []Pool) []Pool {
	pools = slices.Clone(pools)
	slices.SortFunc(pools, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	return pools
}
