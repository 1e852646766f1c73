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
		o.ManagedFields, o.Spec.Selector = nil, nil
	case *discoveryv1.EndpointSlice:
		leanSlice(o)
	}
	return obj, nil
}

// leanSlice leaves the labels that are read and, of each endpoint, addresses,
// conditions, place and hints.
func leanSlice(s *discoveryv1.EndpointSlice) {
	s.ManagedFields, s.OwnerReferences, s.GenerateName = nil, nil, ""
	labels := map[string]string{}
	for _, read := range []string{discoveryv1.LabelServiceName, corev1.IsHeadlessService} {
		if value, has := s.Labels[read]; has {
			labels[read] = value
		}
	}
	s.Labels = labels
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

// packer keeps the strings of all endpoints in two pieces of memory.
type packer struct {
	// text are the addresses, one after the other; room is for all strings. Both
	// get shorter with what is taken of them.
	text string
	room []string
}

func packerFor(endpoints []discoveryv1.Endpoint) *packer {
	var text strings.Builder
	count := 0
	for _, e := range endpoints {
		count += len(e.Addresses) + 2
		for _, addr := range e.Addresses {
			text.WriteString(addr)
		}
	}
	return &packer{text.String(), make([]string, count)}
}

func (p *packer) take(count int) []string {
	out := p.room[:count:count]
	p.room = p.room[count:]
	return out
}

func (p *packer) addresses(from []string) []string {
	out := p.take(len(from))
	for i, addr := range from {
		out[i], p.text = p.text[:len(addr)], p.text[len(addr):]
	}
	return out
}

// name keeps that of a node or a zone; many endpoints have the same.
func (p *packer) name(from *string) *string {
	if from == nil {
		return nil
	}
	out := p.take(1)
	out[0] = unique.Make(*from).Value()
	return &out[0]
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
