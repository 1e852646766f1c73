// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"slipway.dev/slipway/bpf"
)

// wanted is a frontend that an object wants, and what it is to lead to.
type wanted struct {
	frontend bpf.Frontend
	target   Target
}

// claims are all that one object wants, each frontend once.
type claims struct {
	// object is KIND NAMESPACE/NAME.
	object  string
	created time.Time
	// pod tells a pod's host ports from Services, which come first.
	pod      bool
	wanted   []wanted
	problems []Problem
}

// claim is one object's claim to a frontend.
type claim struct {
	by     *claims
	target Target
}

// before orders those who want the same: Services before pods, then the oldest
// one.
func before(a, b *claims) int {
	if a.pod != b.pod {
		if a.pod {
			return 1
		}
		return -1
	}
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.object, b.object))
}

// taken says that a frontend is another object's.
func taken(f bpf.Frontend, owner string) string {
	return fmt.Sprintf("%s port %d/%s: belongs to %s already", f.Addr, f.Port, f.Protocol, owner)
}

// merger makes tables out of the claims of all objects, and keeps them as
// objects come, change and go one by one. What it has does not depend on the
// order. It is not safe for concurrent use.
type merger struct {
	objects map[string]*claims
	// owners are those who want a frontend, the one who has it first.
	owners map[bpf.Frontend][]claim
	tables Tables
	// changed are the frontends of tables that were touched since the last
	// call of take.
	changed map[bpf.Frontend]bool
	// faulty are the objects with problems; contested the frontends that
	// several want.
	faulty    map[string]*claims
	contested map[bpf.Frontend]bool
}

func newMerger() *merger {
	return &merger{
		objects: map[string]*claims{}, owners: map[bpf.Frontend][]claim{}, tables: Tables{},
		changed: map[bpf.Frontend]bool{}, faulty: map[string]*claims{}, contested: map[bpf.Frontend]bool{},
	}
}

// set replaces the claims of an object.
func (m *merger) set(next *claims) {
	m.remove(next.object)
	if len(next.problems) > 0 {
		m.faulty[next.object] = next
	}
	if len(next.wanted) > 0 {
		m.objects[next.object] = next
	}
	for _, w := range next.wanted {
		owners := m.owners[w.frontend]
		i, _ := slices.BinarySearchFunc(owners, next, func(c claim, next *claims) int { return before(c.by, next) })
		m.owners[w.frontend] = slices.Insert(owners, i, claim{next, w.target})
		m.settle(w.frontend)
	}
}

// remove takes an object away.
func (m *merger) remove(object string) {
	delete(m.faulty, object)
	old := m.objects[object]
	if old == nil {
		return
	}
	delete(m.objects, object)
	for _, w := range old.wanted {
		m.owners[w.frontend] = slices.DeleteFunc(m.owners[w.frontend], func(c claim) bool { return c.by == old })
		m.settle(w.frontend)
	}
}

// settle gives a frontend to the first of those who want it.
func (m *merger) settle(f bpf.Frontend) {
	m.changed[f] = true
	owners := m.owners[f]
	delete(m.contested, f)
	switch len(owners) {
	case 0:
		delete(m.owners, f)
		delete(m.tables, f)
		return
	case 1:
	default:
		// Two that refuse the same are in nobody's way.
		if f.Port != 0 {
			m.contested[f] = true
		}
	}
	m.tables[f] = owners[0].target
}

// take returns the frontends that may have changed since the last call.
func (m *merger) take() map[bpf.Frontend]bool {
	out := m.changed
	m.changed = map[bpf.Frontend]bool{}
	return out
}

// owner is the object that has a frontend, KIND NAMESPACE/NAME.
func (m *merger) owner(f bpf.Frontend) string {
	if owners := m.owners[f]; len(owners) > 0 {
		return owners[0].by.object
	}
	return "an object that is gone"
}

// problems returns those of all objects, and of those who did not get what
// they want, in order.
func (m *merger) problems() []Problem {
	var out []Problem
	for _, c := range m.faulty {
		out = append(out, c.problems...)
	}
	for f := range m.contested {
		owners := m.owners[f]
		for _, loser := range owners[1:] {
			out = append(out, Problem{loser.by.object, taken(f, owners[0].by.object)})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}
