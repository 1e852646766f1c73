// SPDX-License-Identifier: Apache-2.0

// Package takeover is what the service proxy does about another one that has
// served this node before, kube-proxy above all, and about one that serves it
// afterwards. Connections that netfilter translates already are left to it (Watch);
// what kube-proxy leaves behind is found and removed (Find); and connections that
// this data path translates are handed to netfilter when it goes (HandBack).
//
// All of it acts on the network namespace of the calling thread and holds no state
// between calls. It removes nothing but what kube-proxy makes; rules of the kubelet
// and of CNI plugins stay.
package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"slipway.dev/slipway/bpf"
)

// lookEvery is how often the node is looked at while there is another proxy, or
// connections of it.
const lookEvery = 30 * time.Second

// Config of a Watch.
type Config struct {
	// PodRanges are those of the whole cluster.
	PodRanges []netip.Prefix
	Log       *slog.Logger
}

// Datapath is told where connections of another proxy may be; *bpf.Datapath is one.
type Datapath interface{ SetTakeover(bpf.Takeover) error }

// Watch keeps a data path informed about connections of another proxy.
type Watch struct {
	cfg      Config
	datapath Datapath
	now      bpf.Takeover
}

// New looks at the node. It is to be called before the BPF programs are loaded:
// to ask has the kernel load its connection tracking, which they need to find.
func New(cfg Config) (*Watch, error) {
	if cfg.Log == nil {
		return nil, errors.New("takeover: log must be set")
	}
	w := &Watch{cfg: cfg}
	var err error
	if w.now, err = w.where(); err != nil {
		return nil, fmt.Errorf("look for another proxy: %w", err)
	}
	return w, nil
}

// Inform tells the data path what was seen. It is to be called before programs are
// attached, so that no packet of another proxy's connections is taken for a new one.
func (w *Watch) Inform(d Datapath) error {
	if w.now != 0 {
		w.tell()
	}
	w.datapath = d
	return d.SetTakeover(w.now)
}

func (w *Watch) tell() {
	w.cfg.Log.Info("connections of another proxy are left to netfilter", "at", w.now.String())
}

// Run looks again from time to time, after Inform. Once there is nothing to be left to
// another proxy, all connections are new and ours, until kube-proxy is started.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := w.now
		err := w.look()
		switch {
		case err != nil:
			w.cfg.Log.Error("look for connections of another proxy", "err", err, "retry", lookEvery)
		case w.now == before:
		case w.now == 0:
			w.cfg.Log.Info("no connections of another proxy are left")
		default:
			w.tell()
		}
	}
}

// look finds out where connections of another proxy may be. On an error all stays
// as it was. Without another proxy the table of connections, which may be large, is
// not read.
func (w *Watch) look() error {
	if w.now == 0 {
		if there, err := rulesExist(); err != nil || !there {
			return err
		}
	}
	where, err := w.where()
	if err != nil {
		return err
	}
	if err := w.datapath.SetTakeover(where); err != nil {
		return err
	}
	w.now = where
	return nil
}

// where is everywhere as long as kube-proxy's rules can begin connections. Without
// them it is where netfilter still translates some.
func (w *Watch) where() (bpf.Takeover, error) {
	const everywhere = bpf.TakeoverUplinks | bpf.TakeoverPods
	var where bpf.Takeover
	err := translated(func(reply tuple) bool {
		where |= bpf.TakeoverUplinks
		if w.isPod(reply.src.Addr()) && w.isPod(reply.dst.Addr()) {
			where |= bpf.TakeoverPods
		}
		return where != everywhere
	})
	if err != nil || where == everywhere {
		return where, err
	}
	if there, err := rulesExist(); err != nil || there {
		return everywhere, err
	}
	return where, nil
}

func (w *Watch) isPod(addr netip.Addr) bool {
	return slices.ContainsFunc(w.cfg.PodRanges, func(p netip.Prefix) bool { return p.Contains(addr) })
}
