// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Forwarding is how connections from other hosts get to backends of other nodes,
// and their replies back. It is a value of flags.
type Forwarding string

const (
	// ForwardSNAT sends them with this node's address as their source.
	ForwardSNAT Forwarding = "snat"
	// ForwardDSR leaves the client's, and has the backend's node answer it.
	ForwardDSR Forwarding = "dsr"
)

// forwardingAnnotation is what a Service says for itself.
const forwardingAnnotation = "slipway.dev/external-forwarding"

// Set reads a value.
func (f *Forwarding) Set(text string) error {
	switch v := Forwarding(text); v {
	case ForwardSNAT, ForwardDSR:
		*f = v
		return nil
	}
	return fmt.Errorf("%q: expected %s or %s", text, ForwardSNAT, ForwardDSR)
}

// String returns the value as Set reads it.
func (f *Forwarding) String() string { return string(*f) }

// Type is what help texts call the value.
func (f *Forwarding) Type() string { return "snat|dsr" }

// direct tells whether the nodes of a Service's backends answer clients themselves.
// With policy Local no other nodes' are used.
func (c *compiler) direct(s *corev1.Service) bool {
	out := c.facts.Forwarding
	c.annotated(s, forwardingAnnotation, &out)
	return out == ForwardDSR && s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal
}
