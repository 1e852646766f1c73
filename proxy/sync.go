// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy/health"
)

// state is what a Proxy has made of the objects. Only the goroutine that writes
// uses it.
type state struct {
	writer *writer
	node   *uplinks
	facts  Facts
	checks map[types.NamespacedName]health.Check
	// all says that the data path may differ from the tables anywhere; links
	// that an uplink may be without its programs, or service ranges be missing.
	all, links bool
	// full says that the last write went through all frontends.
	full bool
	// gaps are those of Services that have any.
	gaps map[string]gaps
}

// sync compiles what has changed and writes what differs.
func (p *Proxy) sync(s *state) error {
	begin := time.Now()
	p.tracker.begin()
	err := p.write(s)
	took := time.Since(begin)
	p.tracker.end(err)
	p.metrics.observe(took, s.writer, err)
	p.metrics.kubeProxy.observe(took, s.full, s.allGaps(), err)
	if err == nil {
		p.health.Updated()
	}
	return err
}

func (p *Proxy) write(s *state) error {
	now := p.changes.take()
	p.tables.Lock()
	linkErr := p.compile(s, now)
	p.tables.Unlock()
	if p.merger == nil {
		return linkErr
	}
	changed := p.merger.take()
	var err error
	if s.all {
		_, err = s.writer.apply(p.merger)
	} else {
		_, err = s.writer.update(p.merger, maps.Keys(changed))
	}
	if s.full, s.all = s.all, err != nil; !s.all {
		p.stale.judge()
	}
	p.tell(slices.Concat(p.merger.problems(), p.answerHealth(s), s.writer.unserved.problems(p.merger.owner)))
	p.serving.Store(&counts{
		frontends: len(s.writer.entries), backends: s.writer.ids.used, slots: int(s.writer.slots.used),
		sources: s.writer.sources.entries(), err: s.writer.unserved.err(),
	})
	return errors.Join(linkErr, err)
}

// compile brings the tables up to date. A change of the node concerns all of
// them.
func (p *Proxy) compile(s *state, now change) error {
	var linkErr error
	if now.node || s.links || p.merger == nil {
		var facts Facts
		if facts, linkErr = p.look(s.node); facts.NodeName == "" {
			return linkErr
		}
		linkErr = errors.Join(linkErr, p.ranges.write())
		s.links = linkErr != nil
		if p.merger == nil || !facts.equal(s.facts) {
			s.facts = facts
			return errors.Join(linkErr, p.compileAll(s))
		}
	}
	for key := range now.services {
		p.compileService(s, key)
	}
	for key := range now.pods {
		namespace, name, _ := strings.Cut(key, "/")
		if pod, err := p.pods.Pods(namespace).Get(name); err == nil {
			p.merger.set(compilePod(pod, s.facts))
		} else {
			p.merger.remove("Pod " + key)
		}
	}
	return linkErr
}

// target is where a frontend leads.
func (p *Proxy) target(f bpf.Frontend) (Target, bool) {
	p.tables.RLock()
	defer p.tables.RUnlock()
	return p.merger.at(f)
}

// look finds out what is so of the node, and puts the programs on its uplinks.
// Without any addresses to serve it returns no facts but an error.
func (p *Proxy) look(node *uplinks) (Facts, error) {
	addrs, err := node.reconcile()
	if addrs == nil && err != nil {
		return Facts{}, err
	}
	facts := p.facts(addrs)
	return facts, errors.Join(err, node.name(facts.Primary))
}

func (p *Proxy) compileAll(s *state) error {
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return err
	}
	pods, err := p.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	p.merger, s.all, s.checks = newMerger(), true, map[types.NamespacedName]health.Check{}
	s.gaps = map[string]gaps{}
	for _, service := range services {
		p.compileService(s, objectName(service))
	}
	for _, pod := range pods {
		p.merger.set(compilePod(pod, s.facts))
	}
	return nil
}

// compileService compiles a Service that may be gone.
func (p *Proxy) compileService(s *state, key string) {
	namespace, name, _ := strings.Cut(key, "/")
	id := types.NamespacedName{Namespace: namespace, Name: name}
	delete(s.checks, id)
	delete(s.gaps, key)
	service, err := p.services.Services(namespace).Get(name)
	if err != nil {
		p.merger.remove("Service " + key)
		return
	}
	found := p.ofService.slices(key)
	p.merger.set(compileService(service, found, s.facts))
	if check, asked := HealthCheck(service, found, s.facts.NodeName); asked {
		s.checks[id] = check
	}
	if found := gapsOf(service, found, s.facts); len(found) > 0 {
		s.gaps[key] = found
	}
}

func (f Facts) equal(other Facts) bool {
	return f.NodeName == other.NodeName && f.Zone == other.Zone && f.Balancing == other.Balancing && f.Forwarding == other.Forwarding &&
		slices.Equal(f.NodeAddrs, other.NodeAddrs) && slices.Equal(f.PeerAddrs, other.PeerAddrs) &&
		slices.Equal(f.Primary, other.Primary)
}

// tell logs each problem once, for as long as it stays, and has Events made.
func (p *Proxy) tell(problems []Problem) {
	now := make(map[Problem]bool, len(problems))
	for _, problem := range problems {
		if now[problem] = true; !p.told[problem] {
			p.cfg.Log.Warn("object cannot be served", "object", problem.Object, "problem", problem.Message)
		}
	}
	p.told = now
	p.reporter.set(problems)
}

// answerHealth tells the health server what objects say.
func (p *Proxy) answerHealth(s *state) []Problem {
	if node, err := p.nodes.Get(p.cfg.NodeName); err == nil {
		p.health.SetEligible(takesTraffic(node))
	}
	var problems []Problem
	for name, err := range p.health.SetChecks(s.checks) {
		problems = append(problems, Problem{"Service " + name.String(), "spec.healthCheckNodePort: " + err.Error()})
	}
	return problems
}

// takesTraffic tells whether load balancers may send traffic to a node: not to
// one that is about to be deleted (KEP-3836).
func takesTraffic(node *corev1.Node) bool {
	return node.DeletionTimestamp.IsZero() && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == toBeDeleted
	})
}

// toBeDeleted is the taint that the cluster autoscaler gives to a node first.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"
