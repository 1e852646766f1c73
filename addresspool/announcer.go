// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	// lookPeriod is how often an Announcer looks who is alive.
	lookPeriod = 500 * time.Millisecond
	// greetings are how often neighbours are told of a new address, once each
	// lookPeriod: one may get lost.
	greetings = 3
)

// AnnouncerConfig says what an Announcer works on.
type AnnouncerConfig struct {
	NodeName string
	Client   kubernetes.Interface
	// Informers and Pools are started by the caller, after NewAnnouncer.
	Informers informers.SharedInformerFactory
	Pools     cache.SharedIndexInformer
	Log       *slog.Logger
}

// Announcer keeps the addresses on a node's uplinks that the node owns.
type Announcer struct {
	cfg      AnnouncerConfig
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	nodes    corelisters.NodeLister
	synced   []cache.InformerSynced
	changed  chan struct{}
	// greet holds how often neighbours have still to be told of an address.
	greet map[netip.Addr]int
	// said is the last error, so that it is logged once.
	said string
}

// NewAnnouncer returns an Announcer; it changes nothing before Run.
func NewAnnouncer(cfg AnnouncerConfig) (*Announcer, error) {
	services, slices, nodes := cfg.Informers.Core().V1().Services(), cfg.Informers.Discovery().V1().EndpointSlices(), cfg.Informers.Core().V1().Nodes()
	a := &Announcer{
		cfg: cfg, services: services.Lister(), slices: slices.Lister(), nodes: nodes.Lister(),
		changed: make(chan struct{}, 1), greet: map[netip.Addr]int{},
	}
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), slices.Informer(), nodes.Informer(), cfg.Pools} {
		handle, err := informer.AddEventHandler(notify(a.touch))
		if err != nil {
			return nil, fmt.Errorf("watch for announced addresses: %w", err)
		}
		a.synced = append(a.synced, handle.HasSynced)
	}
	return a, nil
}

func (a *Announcer) touch() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends, and leaves the addresses where they are then:
// the kernel serves them while the next process starts. Without any AddressPool
// it does nothing.
func (a *Announcer) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), a.synced...) {
		return nil
	}
	for ctx.Err() == nil {
		if len(a.cfg.Pools.GetStore().ListKeys()) == 0 {
			a.report(Clean())
			a.wait(ctx, nil)
			continue
		}
		if err := a.announce(ctx); err != nil {
			return err
		}
	}
	return nil
}

// announce takes part for as long as there is a pool.
func (a *Announcer) announce(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	peers, done := newAlive(a.cfg.Client, a.cfg.NodeName, a.cfg.Log), make(chan error, 1)
	go func() { done <- peers.run(ctx, a.touch) }()
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	for ctx.Err() == nil && len(a.cfg.Pools.GetStore().ListKeys()) > 0 {
		if alive, known := peers.nodes(time.Now()); known {
			a.report(a.reconcile(alive))
		}
		a.wait(ctx, tick.C)
	}
	stop()
	return <-done
}

func (a *Announcer) wait(ctx context.Context, tick <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-a.changed:
	case <-tick:
	}
}

func (a *Announcer) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.said {
		a.cfg.Log.Warn("announce load-balancer addresses", "err", err)
	}
	a.said = text
}

// reconcile brings the uplinks to what this node owns among those alive.
func (a *Announcer) reconcile(alive []string) error {
	services, err := a.services.List(labels.Everything())
	if err != nil {
		return err
	}
	pools, _ := readPools(a.cfg.Pools)
	state := cluster{services: services, slices: a.slicesOf, nodes: a.eligible(alive)}
	links, err := uplinks()
	if err != nil {
		return err
	}
	want := map[netip.Addr]int{}
	for _, addr := range state.owned(a.cfg.NodeName, pools) {
		at := choose(links, addr)
		if at < 0 {
			err = errors.Join(err, fmt.Errorf("address %s: this node has no interface with an address of its family", addr))
			continue
		}
		want[addr] = at
	}
	return errors.Join(err, a.apply(links, want))
}

func (a *Announcer) eligible(alive []string) []string {
	return slices.DeleteFunc(slices.Clone(alive), func(name string) bool {
		node, err := a.nodes.Get(name)
		return err != nil || !takesTraffic(node)
	})
}

func (a *Announcer) slicesOf(namespace, service string) []*discoveryv1.EndpointSlice {
	found, err := a.slices.EndpointSlices(namespace).List(serviceSlices(service))
	if err != nil {
		return nil
	}
	return found
}

// apply adds and removes addresses, and tells neighbours of those that are new.
func (a *Announcer) apply(links []uplink, want map[netip.Addr]int) error {
	var errs []error
	for i, u := range links {
		for addr, have := range u.ours {
			if at, ok := want[addr]; !ok || at != i {
				a.cfg.Log.Info("address goes", "address", addr, "interface", u.name())
				errs = append(errs, u.remove(have))
			}
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(want), netip.Addr.Compare) {
		u := links[want[addr]]
		if _, have := u.ours[addr]; !have {
			a.cfg.Log.Info("address comes", "address", addr, "interface", u.name())
			if err := u.add(addr); err != nil {
				errs = append(errs, err)
				continue
			}
			a.greet[addr] = greetings
		}
		if a.greet[addr] > 0 {
			a.greet[addr]--
			attrs := u.link.Attrs()
			errs = append(errs, greet(net.Interface{Index: attrs.Index, Name: attrs.Name, HardwareAddr: attrs.HardwareAddr}, addr))
		}
	}
	maps.DeleteFunc(a.greet, func(addr netip.Addr, left int) bool { _, ok := want[addr]; return !ok || left == 0 })
	return errors.Join(errs...)
}

// Addresses are those that this node announces now, from the kernel.
func Addresses() ([]netip.Addr, error) {
	links, err := uplinks()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, u := range links {
		out = append(out, slices.Collect(maps.Keys(u.ours))...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}
