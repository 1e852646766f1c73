// SPDX-License-Identifier: Apache-2.0

// Package peers leads packets for the pods of other nodes to those nodes. It
// owns the routes of protocol 84 in the node's network namespace: one for
// each pod range of each node that shares a network with this one. The routes
// stay when the process ends; the next one takes them over.
package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// routeProtocol marks the routes that are ours, see rt_protos(5) of iproute2.
const routeProtocol netlink.RouteProtocol = 84

// again is the time after which the kernel is looked at in any case.
const again = time.Minute

// Config says what a Peers needs.
type Config struct {
	// NodeName is this node.
	NodeName string
	// Nodes is started by the caller, after New.
	Nodes coreinformers.NodeInformer
	Log   *slog.Logger
}

// Peers keeps the routes to other nodes.
type Peers struct {
	cfg     Config
	changed chan struct{}
	// told are the problems that are in the log.
	told []string
}

// New returns a Peers.
func New(cfg Config) (*Peers, error) {
	p := &Peers{cfg: cfg, changed: make(chan struct{}, 1)}
	_, err := cfg.Nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { p.notify() },
		DeleteFunc: func(any) { p.notify() },
		UpdateFunc: func(before, now any) {
			if differs(before.(*corev1.Node), now.(*corev1.Node)) {
				p.notify()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch nodes: %w", err)
	}
	return p, nil
}

func (p *Peers) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// differs tells whether a change of a node matters here; most are heartbeats.
func differs(a, b *corev1.Node) bool {
	return !slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) || !slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

// Run keeps the routes until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), p.cfg.Nodes.Informer().HasSynced) {
		return nil
	}
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if err := p.reconcile(); err != nil {
			p.cfg.Log.Warn("set routes to other nodes", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-addrs:
		case <-tick.C:
		}
	}
}

func (p *Peers) reconcile() error {
	nodes, err := p.cfg.Nodes.Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	links, err := ownLinks()
	if err != nil {
		return err
	}
	routes, problems := Compile(nodes, p.cfg.NodeName, links)
	if !slices.Equal(problems, p.told) {
		for _, problem := range problems {
			p.cfg.Log.Warn("no route to pods", "problem", problem)
		}
		p.told = problems
	}
	return Apply(routes)
}

// ownLinks lists the interfaces that other nodes may be on.
func ownLinks() ([]Link, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var links []Link
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if addr = addr.Unmap(); !ok || !addr.IsGlobalUnicast() || ones == addr.BitLen() {
			continue
		}
		at := slices.IndexFunc(links, func(l Link) bool { return l.Index == a.LinkIndex })
		if at < 0 {
			at, links = len(links), append(links, Link{Index: a.LinkIndex})
		}
		links[at].Prefixes = append(links[at].Prefixes, netip.PrefixFrom(addr, ones))
	}
	return links, nil
}

// Apply makes the kernel's routes of our protocol these and no others. Those
// that are right are not touched.
func Apply(want []Route) error {
	have, err := current()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range want {
		if slices.Contains(have, r) {
			continue
		}
		if err := netlink.RouteReplace(r.kernel()); err != nil {
			errs = append(errs, fmt.Errorf("set route %s via %s: %w", r.Dst, r.Via, err))
		}
	}
	for _, r := range have {
		same := func(w Route) bool { return w.Dst == r.Dst }
		if slices.ContainsFunc(want, same) {
			continue // It has been replaced.
		}
		if err := netlink.RouteDel(r.kernel()); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s via %s: %w", r.Dst, r.Via, err))
		}
	}
	return errors.Join(errs...)
}

// Clean removes all routes.
func Clean() error { return Apply(nil) }

func (r Route) kernel() *netlink.Route {
	return &netlink.Route{
		Dst: &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), r.Dst.Addr().BitLen())},
		Gw:  r.Via.AsSlice(), LinkIndex: r.Link, Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

func current() ([]Route, error) {
	filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}
	found, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, r := range found {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		dst, _ := netip.AddrFromSlice(r.Dst.IP)
		via, _ := netip.AddrFromSlice(r.Gw)
		routes = append(routes, Route{Dst: netip.PrefixFrom(dst.Unmap(), ones), Via: via.Unmap(), Link: r.LinkIndex})
	}
	return routes, nil
}
