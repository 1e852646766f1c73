// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"slipway.dev/slipway/addresspool"
	"slipway.dev/slipway/internal/leader"
)

// balancer gives Services load-balancer addresses, on one node of the cluster,
// and announces those of this node.
type balancer struct {
	client     kubernetes.Interface
	node       string
	log        *slog.Logger
	pools      cache.SharedIndexInformer
	controller *addresspool.Controller
	announcer  *addresspool.Announcer
}

func (a *Agent) newBalancer() (balancer, error) {
	b := balancer{
		client: a.cfg.Client, node: a.cfg.NodeName, log: a.cfg.Log.With("component", "addresspool"),
		pools: addresspool.NewInformer(a.cfg.Dynamic),
	}
	var err error
	b.controller, err = addresspool.NewController(addresspool.ControllerConfig{
		Client: b.client, Informers: a.informers, Pools: b.pools, Log: b.log,
		Recorder: a.recorder("slipway-addresspool"),
	})
	if err != nil {
		return b, err
	}
	b.announcer, err = addresspool.NewAnnouncer(addresspool.AnnouncerConfig{
		NodeName: b.node, Client: b.client, Informers: a.informers, Pools: b.pools, Log: b.log,
	})
	return b, err
}

func (b balancer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { b.pools.Run(ctx.Done()); return nil })
	group.Go(func() error { return b.announcer.Run(ctx) })
	group.Go(func() error {
		// An election costs a write every other second.
		if !addresspool.WaitForPool(ctx, b.pools) {
			return nil
		}
		return leader.Run(ctx, leader.Config{Client: b.client, Name: "slipway-addresspool", Identity: b.node, Log: b.log}, b.controller.Run)
	})
	return group.Wait()
}
