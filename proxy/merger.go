// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
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

// claim is one object's claim to a frontend. The target is the one in its claims.
type claim struct {
	by     *claims
	target *Target
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
	// owners are those who have a frontend: the first of those who want it.
	owners map[bpf.Frontend]claim
	// rivals are all who want a frontend that several want, its owner first.
	rivals map[bpf.Frontend][]claim
	// changed are the frontends that were touched since the last call of take.
	changed map[bpf.Frontend]bool
	// faulty are the objects with problems.
	faulty map[string]*claims
}

func newMerger() *merger {
	return &merger{
		objects: map[string]*claims{}, owners: map[bpf.Frontend]claim{}, rivals: map[bpf.Frontend][]claim{},
		changed: map[bpf.Frontend]bool{}, faulty: map[string]*claims{},
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
	for i := range next.wanted {
		w := &next.wanted[i]
		m.enter(w.frontend, claim{next, &w.target})
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
		m.leave(w.frontend, old)
	}
}

// enter gives a frontend to the first of those who want it, now one more.
func (m *merger) enter(f bpf.Frontend, c claim) {
	m.changed[f] = true
	owner, owned := m.owners[f]
	if !owned {
		m.owners[f] = c
		return
	}
	rivals := m.rivals[f]
	if len(rivals) == 0 {
		rivals = []claim{owner}
	}
	i, _ := slices.BinarySearchFunc(rivals, c, func(a, b claim) int { return before(a.by, b.by) })
	m.rivals[f] = slices.Insert(rivals, i, c)
	m.owners[f] = m.rivals[f][0]
}

// leave gives a frontend to the first of those who want it, now one less.
func (m *merger) leave(f bpf.Frontend, old *claims) {
	m.changed[f] = true
	rivals := slices.DeleteFunc(m.rivals[f], func(c claim) bool { return c.by == old })
	if len(rivals) == 0 {
		delete(m.owners, f)
		return
	}
	m.owners[f] = rivals[0]
	if m.rivals[f] = rivals; len(rivals) == 1 {
		delete(m.rivals, f)
	}
}

// at is where a frontend leads, if it has an owner.
func (m *merger) at(f bpf.Frontend) (Target, bool) {
	c, owned := m.owners[f]
	if !owned {
		return Target{}, false
	}
	return *c.target, true
}

// all are the frontends that have an owner.
func (m *merger) all() iter.Seq[bpf.Frontend] { return maps.Keys(m.owners) }

func (m *merger) count() int { return len(m.owners) }

// tables are where all frontends lead.
func (m *merger) tables() Tables {
	out := make(Tables, len(m.owners))
	for f, c := range m.owners {
		out[f] = *c.target
	}
	return out
}

// take returns the frontends that may have changed since the last call.
func (m *merger) take() map[bpf.Frontend]bool {
	out := m.changed
	m.changed = map[bpf.Frontend]bool{}
	return out
}

// owner is the object that has a frontend, KIND NAMESPACE/NAME.
func (m *merger) owner(f bpf.Frontend) string {
	if c, owned := m.owners[f]; owned {
		return c.by.object
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
	for f, rivals := range m.rivals {
		if f.Port == 0 {
			continue // Two that refuse the same are in nobody's way.
		}
		for _, loser := range rivals[1:] {
			out = append(out, Problem{loser.by.object, taken(f, rivals[0].by.object)})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}
