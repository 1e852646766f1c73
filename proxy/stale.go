// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"slipway.dev/slipway/bpf"
)

const (
	// settle is how long after a change sockets are looked at. By then an
	// endpoint that moves between slices is in the other one, and programs that
	// read the old range are done with it.
	settle = 200 * time.Millisecond
	// rest is how many times as long as a look took there is none: looks take
	// less than 5 % of one processor.
	rest = 20
)

// staleCloser is the part of *bpf.Datapath that closes sockets, and forgets the
// flows of other hosts.
type staleCloser interface {
	CloseStale(func(bpf.Use) bool) (map[bpf.Protocol]int, error)
	ForgetStale(func(bpf.Use) bool) (int, error)
}

// present are the addresses that may have a pod: all that are in an
// EndpointSlice, in whatever state, and those of pods of this node.
func present(eps []*discoveryv1.EndpointSlice, pods []*corev1.Pod) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	add := func(text string) {
		if addr, err := netip.ParseAddr(text); err == nil {
			out[addr.Unmap()] = true
		}
	}
	for _, slice := range eps {
		for _, e := range slice.Endpoints {
			for _, text := range e.Addresses {
				add(text)
			}
		}
	}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, ip := range pod.Status.PodIPs {
			add(ip.IP)
		}
	}
	return out
}

// Stale tells whether sockets that came to a backend by a Service should be
// closed. target is where the Service leads now, if it is served. UDP sockets are
// when the Service has no such endpoint that serves, as kube-proxy removes such
// flows; when there is no such Service any more, they are when the backend is
// gone. TCP connections are left alone for as long as the backend is there, also
// while it terminates, and when the Service is deleted: its slices, which tell
// what is there, go with it.
func Stale(u bpf.Use, target Target, served bool, there func() map[netip.Addr]bool) bool {
	if served && target.leadsTo(u.Backend) {
		return false
	}
	switch u.Protocol {
	case bpf.ProtocolUDP:
		return !target.serves(u.Backend) && (served || !there()[u.Backend.Addr()])
	case bpf.ProtocolTCP:
		return served && !there()[u.Backend.Addr()]
	}
	return false
}

// staleFlow tells whether a client on another host gets another backend, as by
// kube-proxy: when there is no such Service any more, or none of its endpoints
// that serve is this one. target is where the frontend for other hosts leads.
func staleFlow(u bpf.Use, target Target, served bool) bool {
	return !served || !target.leadsTo(u.Backend) && !target.serves(u.Backend)
}

func (t Target) leadsTo(backend netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(t.Backends, backend, func(b bpf.Backend, to netip.AddrPort) int {
		return cmp.Or(b.Addr.Compare(to.Addr()), cmp.Compare(b.Port, to.Port()))
	})
	return found
}

func (t Target) serves(backend netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(t.Serving, backend, netip.AddrPort.Compare)
	return found
}

// closer closes sockets whose backend is gone, beside the writer, which never
// waits for it. It judges what sockets there are by how things are now, so
// that it does not matter what happened while nobody looked.
type closer struct {
	datapath staleCloser
	log      *slog.Logger
	closed   func(bpf.Protocol, int)
	// now returns what judges by how things are now.
	now func() func(bpf.Use) bool
	// flows judges those of other hosts by how things are when it is called.
	flows func(bpf.Use) bool
	// changed holds at most one note that sockets are to be judged anew.
	changed chan struct{}
}

// judge has sockets judged anew, soon.
func (c *closer) judge() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *closer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		}
		if !sleep(ctx, settle) {
			return nil
		}
		begin := time.Now()
		pause := lastRetry
		if err := c.close(); err != nil {
			c.log.Warn("close sockets of backends that are gone", "err", err, "retry", pause)
			c.judge()
		} else {
			pause = rest * time.Since(begin)
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

func (c *closer) close() error {
	forgotten, forgetErr := c.datapath.ForgetStale(c.flows)
	if forgotten > 0 {
		c.log.Info("forgot flows whose backend is gone", "flows", forgotten)
	}
	closed, err := c.datapath.CloseStale(c.now())
	for protocol, n := range closed {
		if n > 0 {
			c.closed(protocol, n)
			c.log.Info("closed sockets whose backend is gone", "protocol", protocol.String(), "sockets", n)
		}
	}
	return errors.Join(err, forgetErr)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// staleNow returns what judges sockets by the tables as they are when it is
// called, and by what objects there are.
func (p *Proxy) staleNow() func(bpf.Use) bool {
	there := sync.OnceValue(func() map[netip.Addr]bool {
		var found []*discoveryv1.EndpointSlice
		for _, obj := range p.slices.List() {
			found = append(found, obj.(*discoveryv1.EndpointSlice))
		}
		pods, err := p.pods.List(labels.Everything())
		if err != nil {
			pods = nil
		}
		return present(found, pods)
	})
	return func(u bpf.Use) bool {
		target, served := p.target(bpf.Frontend{Addr: u.Service.Addr(), Port: u.Service.Port(), Protocol: u.Protocol})
		return Stale(u, target, served, there)
	}
}

// flowIsStale judges a flow of another host.
func (p *Proxy) flowIsStale(u bpf.Use) bool {
	target, served := p.target(bpf.Frontend{Addr: u.Service.Addr(), Port: u.Service.Port(), Protocol: u.Protocol, Scope: bpf.ScopeExternal})
	return staleFlow(u, target, served)
}
