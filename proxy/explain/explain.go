// SPDX-License-Identifier: Apache-2.0

// Package explain says in words what becomes of a connection. It compares what
// the API's objects call for with what the kernel has. Explain is a pure
// function of an Input; nothing is sent and nothing is changed.
package explain

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// Client is who connects.
type Client struct {
	// Pod is nil for the node itself and for another host.
	Pod *corev1.Pod
	// Addr is that of another host; not valid otherwise.
	Addr netip.Addr
}

// Outside tells whether the client is another host.
func (c Client) Outside() bool { return c.Pod == nil && c.Addr.IsValid() }

// Destination is the address that the client uses.
type Destination struct {
	Addr     netip.AddrPort
	Protocol bpf.Protocol
}

func (d Destination) String() string { return fmt.Sprintf("%s/%s", d.Addr, d.Protocol) }

// Input is all that an explanation is made of.
type Input struct {
	// Objects has the Services, EndpointSlices and Pods of the whole cluster.
	Objects  proxy.Objects
	Policies []*networkingv1.NetworkPolicy
	Facts    proxy.Facts
	// Kernel is what the data path has, Drops what it has dropped.
	Kernel proxy.Tables
	Drops  map[bpf.DropReason]uint64
	From   Client
	To     Destination
}

// Step is one thing that happens, with what is to be said about it.
type Step struct {
	Says string
	// Details are further lines.
	Details []string
}

// Explanation is what becomes of a connection.
type Explanation struct {
	// From and To say who the client is and what the address is.
	From, To string
	Steps    []Step
}

// Explain says what becomes of a connection.
func Explain(in Input) Explanation {
	e := &explainer{Input: in, own: in.Objects}
	e.own.Pods = slices.DeleteFunc(slices.Clone(in.Objects.Pods), func(p *corev1.Pod) bool { return p.Spec.NodeName != in.Facts.NodeName })
	e.wanted, e.problems = proxy.Compile(e.own, in.Facts)
	e.owners = proxy.Owners(e.own, in.Facts)
	out := Explanation{From: e.client(), To: e.To.String() + ": " + e.address()}
	if pod := in.From.Pod; pod != nil && pod.Spec.NodeName != in.Facts.NodeName {
		e.say("The pod is on node %s: only the kernel there has what becomes of its connections. Run this command there.", pod.Spec.NodeName)
		out.Steps = e.steps
		return out
	}
	f, target, found := e.lookUp()
	e.choices(f, target, found)
	e.path(target, found)
	e.policies(target)
	e.compare(f)
	e.dropped()
	out.Steps = e.steps
	return out
}

// explainer collects the steps.
type explainer struct {
	Input
	// own are the objects as this node's proxy sees them, wanted what they
	// call for.
	own      proxy.Objects
	wanted   proxy.Tables
	owners   map[bpf.Frontend]string
	problems []proxy.Problem
	steps    []Step
}

func (e *explainer) say(format string, args ...any) {
	e.steps = append(e.steps, Step{Says: fmt.Sprintf(format, args...)})
}

func (e *explainer) detail(format string, args ...any) {
	last := &e.steps[len(e.steps)-1]
	last.Details = append(last.Details, fmt.Sprintf(format, args...))
}

func (e *explainer) scope() bpf.Scope {
	if e.From.Outside() {
		return bpf.ScopeExternal
	}
	return bpf.ScopeCluster
}

// match is how the data path finds a frontend.
type match int

const (
	none match = iota
	exact
	// rest is the entry for all ports that a cluster address does not have.
	rest
)

// lookUp does what the data path does.
func (e *explainer) lookUp() (bpf.Frontend, proxy.Target, match) {
	f := bpf.Frontend{Addr: e.To.Addr.Addr(), Port: e.To.Addr.Port(), Protocol: e.To.Protocol, Scope: e.scope()}
	if target, ok := e.Kernel[f]; ok {
		e.say("The data path finds the frontend %s, for %s.", e.To, scopeWords(f.Scope))
		if target.Affinity != 0 {
			e.detail("a client keeps its backend for %d s after its last connection (session affinity)", target.Affinity)
		}
		return f, target, exact
	}
	all := bpf.Frontend{Addr: f.Addr, Scope: f.Scope}
	if target, ok := e.Kernel[all]; ok && f.Scope == bpf.ScopeCluster {
		e.say("The data path has no frontend %s; the address is a Service's, which has no such port.", e.To)
		return f, target, rest
	}
	e.say("The data path has no frontend %s for %s.", e.To, scopeWords(f.Scope))
	other := f
	other.Scope = bpf.ScopeExternal - f.Scope
	if _, ok := e.Kernel[other]; ok {
		e.detail("there is one for %s", scopeWords(other.Scope))
	}
	return f, proxy.Target{}, none
}

func scopeWords(s bpf.Scope) string {
	if s == bpf.ScopeExternal {
		return "packets from other hosts"
	}
	return "pods and the node"
}

// choices says which backends there are, and why other endpoints are none.
func (e *explainer) choices(f bpf.Frontend, target proxy.Target, found match) {
	if found != exact {
		return
	}
	switch n := len(target.Backends); n {
	case 0:
		e.say("It has no backends.")
	case 1:
		e.say("It has one backend:")
	default:
		how := "at random"
		if target.Maglev {
			how = "by a hash of the client's address and port, on all nodes the same"
		}
		e.say("It has %d backends, one of which is taken %s:", n, how)
	}
	for _, b := range target.Backends {
		e.detail("%s", e.backend(b, ""))
	}
	first := true
	for _, c := range proxy.Choices(e.own, e.Facts, f) {
		if c.Unused == "" || slices.Contains(target.Backends, c.Backend) {
			continue
		}
		if first {
			e.say("Not used:")
			first = false
		}
		e.detail("%s: %s", e.backend(c.Backend, c.Node), c.Unused)
	}
}
