// SPDX-License-Identifier: Apache-2.0

// Package proxy is the service proxy of one node: it turns Services and
// EndpointSlices into frontends and backends and keeps the data path equal to
// them. It takes the place of kube-proxy.
//
// Compile is a pure function from objects to tables; a writer brings the data
// path to the tables, one atomic flip a frontend. What the data path serves
// when a Proxy starts is adopted and only changed where it differs, once all
// objects have been read. A Proxy owns the frontends, slots and backends of
// the data path and the programs on the node's uplinks. New, Run, Synced,
// Stats and Err may be used from any goroutine; only one Run at a time.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"slipway.dev/slipway/proxy/health"
)

// Failed writes are tried again after firstRetry, then ever later.
const firstRetry, lastRetry = 500 * time.Millisecond, 30 * time.Second

// Config of a Proxy.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	// Informers are started by the caller, after New.
	Informers informers.SharedInformerFactory
	// Pods are those of this node; they too are started by the caller.
	Pods coreinformers.PodInformer
	// Datapath is what is kept equal to the objects; *bpf.Datapath is one.
	Datapath interface {
		Datapath
		uplinker
		staleCloser
	}
	// NodePortAddresses are as ParseNodePortAddresses takes them.
	NodePortAddresses []string
	// HealthAddress is where /healthz and /livez are served; not at all when
	// it is empty.
	HealthAddress string
	// Balancing is for connections from other hosts to Services that do not say
	// how; empty is BalanceRandom.
	Balancing Balancing
	// Forwarding is for those to backends of other nodes; empty is ForwardSNAT.
	Forwarding Forwarding
	// Recorder makes Events about objects that cannot be served; may be nil.
	Recorder record.EventRecorder
	// Registry gets the metrics; may be nil.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	if c.NodeName == "" || c.Informers == nil || c.Pods == nil || c.Datapath == nil || c.Log == nil {
		return errors.New("proxy: node name, informers, pods, data path and log must be set")
	}
	return nil
}

// Proxy is the service proxy of a node.
type Proxy struct {
	cfg      Config
	ports    NodePortAddresses
	metrics  *metrics
	stale    *closer
	reporter *reporter
	health   *health.Server
	services corelisters.ServiceLister
	slices   cache.Store
	// ofService finds slices by their Service.
	ofService *sliceIndex
	nodes     corelisters.NodeLister
	pods      corelisters.PodLister
	synced    []cache.InformerSynced
	ranges    *serviceRanges
	changes   *changes
	// tables is locked where they are changed, and where another goroutine
	// than the one that does reads them.
	tables  sync.RWMutex
	merger  *merger
	tracker *tracker
	// serving is nil until the first write is through.
	serving atomic.Pointer[counts]
	// told are the problems that have been logged.
	told map[Problem]bool
}

// counts are what is served after a write; err says what is not.
type counts struct {
	frontends, backends, slots, sources int
	err                                 error
}

// New makes a Proxy and registers its informers; it changes nothing yet.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, changes: newChanges(), ofService: newSliceIndex(), health: health.New(cfg.Log)}
	var err error
	if p.ports, err = ParseNodePortAddresses(cfg.NodePortAddresses); err != nil {
		return nil, err
	}
	if p.metrics, err = newMetrics(cfg.Registry, p); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p.stale = &closer{datapath: cfg.Datapath, log: cfg.Log, closed: p.metrics.socketsClosed, now: p.staleNow, flows: p.flowIsStale, changed: make(chan struct{}, 1)}
	p.reporter = &reporter{recorder: cfg.Recorder, about: p.about, stays: stays, changed: make(chan struct{}, 1)}
	p.tracker = newTracker(p.metrics.kubeProxy, time.Now)
	services := cfg.Informers.Core().V1().Services()
	slices := cfg.Informers.Discovery().V1().EndpointSlices().Informer()
	if err := errors.Join(services.Informer().SetTransform(lean), slices.SetTransform(lean)); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p.services, p.slices, p.pods = services.Lister(), slices.GetStore(), cfg.Pods.Lister()
	return p, errors.Join(
		p.listen(services.Informer(), p.serviceChanged),
		p.listen(slices, p.sliceChanged),
		p.listen(cfg.Pods.Informer(), p.podChanged),
		p.watchNodes(cfg.Informers.Core().V1().Nodes()),
		p.watchServiceRanges(cfg.Informers.Networking().V1().ServiceCIDRs()),
	)
}

// Synced tells whether all objects have been read and written once. What could
// not be written is tried again and logged.
func (p *Proxy) Synced() bool { return p.serving.Load() != nil }

// Stats returns how many frontends and backends are served.
func (p *Proxy) Stats() (frontends, backends int) {
	if c := p.serving.Load(); c != nil {
		return c.frontends, c.backends
	}
	return 0, 0
}

// Err says what the data path does not have as it should, in one line.
func (p *Proxy) Err() error {
	if c := p.serving.Load(); c != nil {
		return c.err
	}
	return nil
}

// Written returns the entries of those tables of which only the writer knows,
// by their names.
func (p *Proxy) Written() map[string]uint32 {
	c := p.serving.Load()
	if c == nil {
		c = new(counts)
	}
	return map[string]uint32{"slots": uint32(c.slots), "backends": uint32(c.backends), "sources": uint32(c.sources)}
}

// Run keeps the data path equal to the objects until ctx ends. It writes
// nothing before all objects have been read, and leaves the data path as it
// is when it returns.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := newWriter(p.cfg.Datapath, time.Now)
	if err != nil {
		return fmt.Errorf("run proxy: %w", err)
	}
	s := &state{writer: w, node: &uplinks{datapath: p.cfg.Datapath, log: p.cfg.Log}}
	moved, err := s.node.watch(ctx)
	if err != nil {
		return fmt.Errorf("run proxy: %w", err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return nil
	}
	p.nodeChanged()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.follow(ctx, s, moved) })
	group.Go(func() error { return p.stale.run(ctx) })
	if p.cfg.Recorder != nil {
		group.Go(func() error { return p.reporter.run(ctx) })
	}
	if p.cfg.HealthAddress != "" {
		group.Go(func() error { return p.health.Run(ctx, p.cfg.HealthAddress) })
	}
	return group.Wait()
}

// follow writes after each change, and again later when something is left to
// do. What changes while it writes is collected.
func (p *Proxy) follow(ctx context.Context, s *state, moved <-chan struct{}) error {
	again := time.NewTimer(0)
	defer again.Stop()
	retry := firstRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changes.note:
		case <-again.C:
		case _, ok := <-moved:
			if !ok {
				return watchEnded(ctx)
			}
			p.nodeChanged()
			continue
		}
		switch err := p.sync(s); {
		case err != nil:
			p.cfg.Log.Error("write services", "err", err, "retry", retry)
			again.Reset(retry)
			retry = min(2*retry, lastRetry)
		case len(s.writer.retired) > 0:
			// Freed even when nothing changes any more.
			again.Reset(grace)
			retry = firstRetry
		default:
			retry = firstRetry
		}
	}
}

func watchEnded(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("run proxy: the kernel's notes about addresses ended")
}
