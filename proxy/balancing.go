// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/proxy/maglev"
)

// Balancing is how connections from other hosts find their backend. It is a value
// of flags.
type Balancing string

const (
	// BalanceRandom takes any backend.
	BalanceRandom Balancing = "random"
	// BalanceMaglev takes the same backend on all nodes, by a hash of the client.
	BalanceMaglev Balancing = "maglev"
)

// balancingAnnotation is what a Service says for itself.
const balancingAnnotation = "slipway.dev/load-balancing"

// Set reads a value.
func (b *Balancing) Set(text string) error {
	switch v := Balancing(text); v {
	case BalanceRandom, BalanceMaglev:
		*b = v
		return nil
	}
	return fmt.Errorf("%q: expected %s or %s", text, BalanceRandom, BalanceMaglev)
}

// String returns the value as Set reads it.
func (b *Balancing) String() string { return string(*b) }

// Type is what help texts call the value.
func (b *Balancing) Type() string { return "random|maglev" }

// balancing is how connections to a Service find their backend.
func (c *compiler) balancing(s *corev1.Service) Balancing {
	out := c.facts.Balancing
	c.annotated(s, balancingAnnotation, &out)
	return out
}

// annotated sets what an annotation says, if the Service has it.
func (c *compiler) annotated(s *corev1.Service, name string, value interface{ Set(string) error }) {
	text, set := s.Annotations[name]
	if !set {
		return
	}
	if err := value.Set(text); err != nil {
		c.problem("metadata.annotations[%s] %v", name, err)
	}
}

// tabled tells whether a Maglev table is made for so many backends: one needs
// none, and more than a table has entries would not all be in it.
func tabled(backends int) bool { return backends > 1 && backends <= maglev.Size }
