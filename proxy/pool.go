// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"

	"slipway.dev/slipway/bpf"
)

// pool is where the backends of some frontends come from.
type pool struct {
	from  endpoints
	facts Facts
	// made are the backends by family, which all frontends share.
	made map[bool][]bpf.Backend
}

// backends are the usable endpoints of a family.
func (p *pool) backends(v4 bool) []bpf.Backend {
	if out, ok := p.made[v4]; ok {
		return out
	}
	usable := p.from.usable(v4, p.facts)
	out := make([]bpf.Backend, 0, len(usable))
	for _, e := range usable {
		out = append(out, backendOf(e, p.facts))
	}
	slices.SortFunc(out, compareBackends)
	if p.made == nil {
		p.made = map[bool][]bpf.Backend{}
	}
	p.made[v4] = slices.Compact(out)
	return p.made[v4]
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
