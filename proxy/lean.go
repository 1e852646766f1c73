// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// lean takes out of an object what no part of the data plane reads, before an
// informer keeps it: with many endpoints that is most of the memory.
func lean(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		leanService(o)
	case *discoveryv1.EndpointSlice:
		leanSlice(o)
	}
	return obj, nil
}

func leanService(s *corev1.Service) {
	s.ManagedFields, s.Spec.Selector = nil, nil
	// Address pools select these by label, and give addresses by family.
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
	s.Labels = only(s.Labels, serviceProxyName, corev1.IsHeadlessService)
}

// leanSlice leaves the labels that are read and, of each endpoint, addresses,
// conditions, place and hints.
func leanSlice(s *discoveryv1.EndpointSlice) {
	s.ManagedFields, s.OwnerReferences, s.GenerateName = nil, nil, ""
	s.Labels = only(s.Labels, discoveryv1.LabelServiceName, corev1.IsHeadlessService)
	packed := packerFor(s.Endpoints)
	// As long as it must be: decoders leave room behind.
	endpoints := make([]discoveryv1.Endpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		c := e.Conditions
		endpoints[i] = discoveryv1.Endpoint{
			Addresses:  packed.addresses(e.Addresses),
			Conditions: discoveryv1.EndpointConditions{Ready: same(c.Ready), Serving: same(c.Serving), Terminating: same(c.Terminating)},
			NodeName:   packed.name(e.NodeName), Zone: packed.name(e.Zone), Hints: e.Hints,
		}
	}
	s.Endpoints = endpoints
}

// only leaves the labels that are read; nil when there are none.
func only(labels map[string]string, read ...string) map[string]string {
	var out map[string]string
	for _, name := range read {
		value, has := labels[name]
		if !has {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = value
	}
	return out
}

// packer keeps the addresses of all endpoints in two pieces of memory, and names once.
type packer struct {
	// text are the addresses, one after the other; room is for their strings. Both
	// get shorter with what is taken of them.
	text string
	room []string
	// names are those of nodes and zones; many endpoints have the same.
	names map[string]*string
}

func packerFor(endpoints []discoveryv1.Endpoint) *packer {
	count, length := 0, 0
	for _, e := range endpoints {
		count += len(e.Addresses)
		for _, addr := range e.Addresses {
			length += len(addr)
		}
	}
	var text strings.Builder
	text.Grow(length)
	for _, e := range endpoints {
		for _, addr := range e.Addresses {
			text.WriteString(addr)
		}
	}
	return &packer{text.String(), make([]string, count), map[string]*string{}}
}

func (p *packer) addresses(from []string) []string {
	out := p.room[:len(from):len(from)]
	p.room = p.room[len(from):]
	for i, addr := range from {
		out[i], p.text = p.text[:len(addr)], p.text[len(addr):]
	}
	return out
}

func (p *packer) name(from *string) *string {
	if from == nil {
		return nil
	}
	out := p.names[*from]
	if out == nil {
		// Other slices have it, too.
		text := unique.Make(*from).Value()
		out, p.names[text] = &text, &text
	}
	return out
}

var yes, no = true, false

// same returns one pointer for all equal values. Nobody changes what an informer
// has.
func same(value *bool) *bool {
	switch {
	case value == nil:
		return nil
	case *value:
		return &yes
	}
	return &no
}
