// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Decoders leave the strings of an object one by one among what is garbage soon. To
// have them together takes less memory, and lets all of that of the garbage go.

// pack moves strings into one piece of memory.
func pack(texts ...*string) {
	length := 0
	for _, text := range texts {
		length += len(*text)
	}
	var all strings.Builder
	all.Grow(length)
	for _, text := range texts {
		all.WriteString(*text)
	}
	rest := all.String()
	for _, text := range texts {
		*text, rest = rest[:len(*text)], rest[len(*text):]
	}
}

// once is the string that all objects share which have an equal one.
func once[T ~string](text T) T { return T(unique.Make(string(text)).Value()) }

// packPorts keeps what the ports of a slice point to together.
func packPorts(from []discoveryv1.EndpointPort) []discoveryv1.EndpointPort {
	if from == nil {
		return nil
	}
	out := make([]discoveryv1.EndpointPort, len(from))
	room := make([]struct {
		name     string
		protocol corev1.Protocol
		port     int32
	}, len(from))
	for i, p := range from {
		at := &room[i]
		out[i].AppProtocol = p.AppProtocol
		if p.Name != nil {
			at.name, out[i].Name = once(*p.Name), &at.name
		}
		if p.Protocol != nil {
			at.protocol, out[i].Protocol = once(*p.Protocol), &at.protocol
		}
		if p.Port != nil {
			at.port, out[i].Port = *p.Port, &at.port
		}
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
		text := once(*from)
		out, p.names[text] = &text, &text
	}
	return out
}

var (
	yes, no        = true, false
	cluster, local = corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal
)

// same returns one pointer for all values that equal one of those that are known.
// Nobody changes what an informer has.
func same[T comparable](value *T, known ...*T) *T {
	for _, one := range known {
		if value != nil && *value == *one {
			return one
		}
	}
	return value
}
