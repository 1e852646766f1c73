// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"

	"slipway.dev/slipway/bpf"
)

// pool is where the backends of some frontends come from.
type pool struct {
	from  endpoints
	facts *Facts
	// v4 and v6 are the backends by family, which all frontends share; nil before
	// they are made.
	v4, v6 []bpf.Backend
}

// backends are the usable endpoints of a family.
func (p *pool) backends(v4 bool) []bpf.Backend {
	made := &p.v6
	if v4 {
		made = &p.v4
	}
	if *made == nil {
		*made = p.make(v4)
	}
	return *made
}

func (p *pool) make(v4 bool) []bpf.Backend {
	usable := p.from.usable(v4, *p.facts)
	out := make([]bpf.Backend, 0, len(usable))
	for _, e := range usable {
		out = append(out, backendOf(e, *p.facts))
	}
	slices.SortFunc(out, compareBackends)
	return slices.Compact(out)
}

func backendOf(e endpoint, facts Facts) bpf.Backend {
	b := bpf.Backend{Addr: e.addr, Port: e.port}
	switch {
	case slices.Contains(facts.NodeAddrs, e.addr):
		b.Flags = bpf.BackendLocalHost
	case e.node == facts.NodeName:
		b.Flags = bpf.BackendLocalPod
	}
	return b
}
