// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"slipway.dev/slipway/test/api"
)

// delay is how long a change of an object takes to reach the data path at most,
// while the agent runs and has the API.
const delay = time.Second

// frontend is what a client talks to.
type frontend struct {
	addr netip.AddrPort
	udp  bool
	// outside says that the client is another host.
	outside bool
}

// version is an object for as long as the API had it like that; nil while there
// was none.
type version[T any] struct {
	object *T
	// began is before the change, ended after the next one; zero when there was
	// none yet.
	began, ended time.Time
}

// versions are all of an object, in order.
type versions[T any] []version[T]

func (v versions[T]) add(object *T, now time.Time) versions[T] {
	if len(v) == 0 {
		v = append(v, version[T]{})
	}
	return append(v, version[T]{object: object, began: now})
}

func (v versions[T]) settle(now time.Time) {
	v[len(v)-2].ended = now
}

// during are those that were there at any time between two.
func (v versions[T]) during(from, to time.Time) []*T {
	var out []*T
	for _, one := range slices.Backward(v) {
		if !one.ended.IsZero() && one.ended.Before(from) {
			break
		}
		if !one.began.After(to) {
			out = append(out, one.object)
		}
	}
	return out
}

// period is a time; one that goes on has no end.
type period struct{ began, ended time.Time }

// model knows what the API has said at what time, and what therefore must be
// reachable. It shares nothing with the proxy.
type model struct {
	mu       sync.Mutex
	services map[string]versions[corev1.Service]
	// slices are by Service and family.
	slices map[sliceKey]versions[discoveryv1.EndpointSlice]
	// blind are the times at which the agent did not see the API.
	blind []period
}

type sliceKey struct {
	service string
	v4      bool
}

func newModel() *model {
	return &model{services: map[string]versions[corev1.Service]{}, slices: map[sliceKey]versions[discoveryv1.EndpointSlice]{}}
}

func keyOf(s *discoveryv1.EndpointSlice) sliceKey {
	return sliceKey{s.Labels[discoveryv1.LabelServiceName], s.AddressType == discoveryv1.AddressTypeIPv4}
}

// note enters a change of an object while do makes it.
func (m *model) note(obj api.Object, gone bool, do func() error) error {
	m.enter(obj, gone)
	err := do()
	m.settle(obj)
	return err
}

func (m *model) enter(obj api.Object, gone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch o := obj.(type) {
	case *corev1.Service:
		if gone {
			o = nil
		}
		m.services[obj.GetName()] = m.services[obj.GetName()].add(o, now)
	case *discoveryv1.EndpointSlice:
		key := keyOf(o)
		if gone {
			o = nil
		}
		m.slices[key] = m.slices[key].add(o, now)
	}
}

func (m *model) settle(obj api.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch o := obj.(type) {
	case *corev1.Service:
		m.services[o.Name].settle(now)
	case *discoveryv1.EndpointSlice:
		m.slices[keyOf(o)].settle(now)
	}
}

// blindFrom says that the agent does not see the API from now on.
func (m *model) blindFrom() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blind = append(m.blind, period{began: time.Now()})
}

// sees says that the agent has caught up.
func (m *model) sees() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blind[len(m.blind)-1].ended = time.Now()
}

// since is from when the API's words may still hold for a connection that
// starts at a time.
func (m *model) since(start time.Time) time.Time {
	from := start.Add(-delay)
	for _, b := range slices.Backward(m.blind) {
		if b.began.Before(start) && (b.ended.IsZero() || b.ended.After(from)) && b.began.Add(-delay).Before(from) {
			from = b.began.Add(-delay)
		}
	}
	return from
}

// expectation is what may come of talking to a frontend.
type expectation struct {
	// allowed are those who may answer.
	allowed map[netip.AddrPort]bool
	// must says that one had to answer: it was one port of one Service all the
	// time, and always had a backend.
	must bool
	// changed says that not all were backends all the time, so that a socket
	// may have been closed.
	changed bool
}

// expect says what may come of talking to a frontend in a period.
func (m *model) expect(f frontend, p period) expectation {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := m.since(p.began)
	out := expectation{allowed: map[netip.AddrPort]bool{}, must: true}
	owner := ""
	var first []netip.AddrPort
	for name, all := range m.services {
		states := all.during(from, p.ended)
		if !slices.ContainsFunc(states, func(s *corev1.Service) bool { _, owns := portFor(s, f); return owns }) {
			continue
		}
		for _, service := range states {
			port, _ := portFor(service, f)
			id := name + "/" + port.Name
			for _, slice := range m.slices[sliceKey{name, f.addr.Addr().Is4()}].during(from, p.ended) {
				leads := leadsTo(service, slice, f)
				if owner == "" {
					owner, first = id, leads
				}
				out.must = out.must && id == owner && len(leads) > 0
				out.changed = out.changed || !slices.Equal(first, leads)
				for _, backend := range leads {
					out.allowed[backend] = true
				}
			}
		}
	}
	out.must = out.must && owner != ""
	return out
}

// portFor is the port of a Service behind a frontend.
func portFor(s *corev1.Service, f frontend) (corev1.ServicePort, bool) {
	if s == nil {
		return corev1.ServicePort{}, false
	}
	addr := f.addr.Addr()
	for _, port := range s.Spec.Ports {
		if (port.Protocol == corev1.ProtocolUDP) != f.udp {
			continue
		}
		byNode := onNode(addr, f.outside) && port.NodePort == int32(f.addr.Port())
		byService := port.Port == int32(f.addr.Port()) && (isBalanced(s, addr) || !f.outside && slices.Contains(s.Spec.ClusterIPs, addr.String()))
		if byNode || byService {
			return port, true
		}
	}
	return corev1.ServicePort{}, false
}

func onNode(addr netip.Addr, outside bool) bool {
	return slices.Contains(nodeAddrs[:], addr) || slices.Contains(nearAddrs[:], addr) || !outside && addr.IsLoopback()
}

func isBalanced(s *corev1.Service, addr netip.Addr) bool {
	return slices.Contains(s.Spec.ExternalIPs, addr.String()) ||
		slices.ContainsFunc(s.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool { return in.IP == addr.String() })
}

// isLocal tells whether a frontend leads to endpoints of the node only.
func isLocal(s *corev1.Service, f frontend) bool {
	if f.outside {
		return s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	}
	return slices.Contains(s.Spec.ClusterIPs, f.addr.Addr().String()) && s.Spec.InternalTrafficPolicy != nil &&
		*s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
}

// leadsTo are the endpoints that a frontend leads to, in order: the ready ones,
// else those that terminate and still serve.
func leadsTo(s *corev1.Service, slice *discoveryv1.EndpointSlice, f frontend) []netip.AddrPort {
	port, owns := portFor(s, f)
	if !owns || slice == nil {
		return nil
	}
	at := slices.IndexFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool { return *p.Name == port.Name })
	if at < 0 {
		return nil
	}
	var ready, terminating []netip.AddrPort
	for _, e := range slice.Endpoints {
		if isLocal(s, f) && *e.NodeName != here {
			continue
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), uint16(*slice.Ports[at].Port))
		switch c := e.Conditions; {
		case *c.Ready:
			ready = append(ready, to)
		case *c.Serving && *c.Terminating:
			terminating = append(terminating, to)
		}
	}
	if len(ready) == 0 {
		ready = terminating
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return ready
}

// verdict is what a result means.
type verdict string

const (
	delivered verdict = "delivered"
	// wrong is an answer of somebody who was no backend.
	wrong verdict = "wrong"
	// failed is no answer where one had to come.
	failed verdict = "failed"
	// unanswered is no answer where none had to come, closed the end of a
	// socket whose backend is gone.
	unanswered verdict = "unanswered"
	closed     verdict = "closed"
)

// judge says what a result means.
func (m *model) judge(f frontend, r result) (verdict, expectation) {
	e := m.expect(f, period{r.start, r.end})
	switch {
	case r.from.IsValid() && !e.allowed[r.from]:
		return wrong, e
	case r.err == "":
		return delivered, e
	case strings.HasPrefix(r.err, "the answer") || strings.HasPrefix(r.err, "another backend"):
		return wrong, e
	case !e.must:
		return unanswered, e
	case e.changed && r.err == syscall.ECONNABORTED.Error():
		return closed, e
	}
	return failed, e
}

// String names who may answer.
func (e expectation) String() string {
	names := []string{}
	for backend := range e.allowed {
		names = append(names, backend.String())
	}
	slices.Sort(names)
	return fmt.Sprintf("one of %v (must %v, changed %v)", names, e.must, e.changed)
}
