// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// told is a model that was told of one Service with an endpoint, then of changes
// a minute apart.
func told(changes ...func(*service)) (*model, frontend, func(minute int) period) {
	begin := time.Now().Add(-time.Hour)
	at := func(minute int) time.Time { return begin.Add(time.Duration(minute) * time.Minute) }
	targets := []*target{{addrs: pair("10.0.0.1", "fd00::1"), node: here}, {addrs: pair("10.0.0.2", "fd00::2"), node: elsewhere}}
	s := &service{name: "web", endpoints: []state{ready, gone}}
	s.ports = []port{{corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30000}, 8000}}
	m := newModel()
	for i, change := range append([]func(*service){func(*service) {}}, changes...) {
		change(s)
		m.services["web"] = m.services["web"].add(s.object(), at(i))
		m.services["web"].settle(at(i))
		key := sliceKey{"web", true}
		m.slices[key] = m.slices[key].add(s.slice(targets, 0), at(i))
		m.slices[key].settle(at(i))
	}
	f := frontend{addr: netip.AddrPortFrom(netip.MustParseAddr(clusterIPs(0)[0]), 80)}
	return m, f, func(minute int) period { return period{at(minute).Add(delay / 2), at(minute).Add(delay)} }
}

func TestModel(t *testing.T) {
	other := func(s *service) { s.endpoints = []state{gone, ready} }
	none := func(s *service) { s.endpoints = []state{gone, gone} }
	for name, tt := range map[string]struct {
		changes       []func(*service)
		at            int
		outside       bool
		want          string
		must, changed bool
	}{
		"long after":       {at: 10, want: "10.0.0.1:8000", must: true},
		"just made":        {want: "10.0.0.1:8000", changed: true},
		"before":           {at: -10},
		"just changed":     {changes: []func(*service){other}, at: 1, want: "10.0.0.1:8000 10.0.0.2:8000", must: true, changed: true},
		"after a change":   {changes: []func(*service){other}, at: 10, want: "10.0.0.2:8000", must: true},
		"just emptied":     {changes: []func(*service){none}, at: 1, want: "10.0.0.1:8000", changed: true},
		"empty":            {changes: []func(*service){none}, at: 10},
		"terminating only": {changes: []func(*service){func(s *service) { s.endpoints[0] = terminating }}, at: 10, want: "10.0.0.1:8000", must: true},
		"terminating":      {changes: []func(*service){func(s *service) { s.endpoints = []state{terminating, ready} }}, at: 10, want: "10.0.0.2:8000", must: true},
		"policy Local":     {changes: []func(*service){other, func(s *service) { s.internal = true }}, at: 10},
		"another port":     {changes: []func(*service){func(s *service) { s.ports[0].Name = "new" }}, at: 1, want: "10.0.0.1:8000", changed: true},
		"from outside":     {at: 10, outside: true},
	} {
		t.Run(name, func(t *testing.T) {
			m, f, at := told(tt.changes...)
			f.outside = tt.outside
			e := m.expect(f, at(tt.at))
			want := map[netip.AddrPort]bool{}
			for _, text := range []string{"10.0.0.1:8000", "10.0.0.2:8000"} {
				addr := netip.MustParseAddrPort(text)
				if want[addr] = strings.Contains(tt.want, text); e.allowed[addr] != want[addr] {
					t.Errorf("%s may answer: %v", text, e.allowed[addr])
				}
			}
			if e.must != tt.must || e.changed != tt.changed {
				t.Errorf("must %v, changed %v, expected %v, %v", e.must, e.changed, tt.must, tt.changed)
			}
		})
	}
}

// While the agent does not see the API, what was there before may still hold.
func TestModelBlind(t *testing.T) {
	m, f, at := told(func(s *service) { s.endpoints = []state{gone, ready} })
	old := netip.MustParseAddrPort("10.0.0.1:8000")
	m.blind = []period{{began: at(0).ended.Add(delay), ended: at(9).ended}}
	for minute, want := range map[int]bool{1: true, 5: true, 9: true, 11: false} {
		if e := m.expect(f, at(minute)); e.allowed[old] != want {
			t.Errorf("minute %d: the old endpoint may answer: %v, expected %v", minute, e.allowed[old], want)
		}
	}
}
