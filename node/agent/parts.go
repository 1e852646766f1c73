// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/cni"
)

// Parts are what a supervisor runs, all at once. A part returns nil when its
// context ends.
func (a *Agent) Parts() []Part {
	return []Part{
		{"informers", a.runInformers},
		{"proxy", a.proxy.Run},
		{"take-over", a.takeover.Run},
		{"tables", a.tables.run},
		{"pod network", a.runNetwork},
		{"routes to nodes", a.peers.Run},
		{"firewall", a.firewall.Run},
		{"load-balancer addresses", a.balancer.run},
		{"volumes", a.volumes.Run},
		{"ingress", a.ingress.Run},
	}
}

func (a *Agent) runInformers(ctx context.Context) error {
	a.informers.Start(ctx.Done())
	a.ownPods.Start(ctx.Done())
	<-ctx.Done()
	a.informers.Shutdown()
	a.ownPods.Shutdown()
	return nil
}

// runNetwork serves the pod network as soon as the node has its pod CIDRs.
func (a *Agent) runNetwork(ctx context.Context) error {
	cidrs, err := a.podCIDRs(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	server, err := cni.New(cni.Config{
		PodCIDRs:     cidrs,
		ClusterCIDRs: a.cfg.ClusterCIDRs,
		NodeAddrs:    a.cfg.NodeIPs,
		Socket:       a.cfg.CNISocket,
		StateDir:     a.cfg.CNIState,
		ConfDir:      a.cfg.CNIConf,
		Datapath:     a.datapath,
		Registry:     a.cfg.Registry,
		Log:          a.cfg.Log.With("component", "cni"),
	})
	if err != nil {
		return err
	}
	a.network.Store(&network{server: server, gateways: gateways(cidrs)})
	return server.Run(ctx)
}

// podCIDRs polls the Node object until the controllers have given it its pod
// CIDRs. It returns without an error when ctx ends.
func (a *Agent) podCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		node, err := a.cfg.Client.CoreV1().Nodes().Get(ctx, a.cfg.NodeName, metav1.GetOptions{})
		if err == nil && len(node.Spec.PodCIDRs) > 0 {
			return parseCIDRs(node)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-tick.C:
		}
	}
}

func parseCIDRs(node *corev1.Node) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, text := range node.Spec.PodCIDRs {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("node %s: spec.podCIDRs[%d] %q: expected a range like 10.244.0.0/24", node.Name, i, text)
		}
		out = append(out, cidr.Masked())
	}
	return out, nil
}

// gateways are the node's own addresses in its pod CIDRs.
func gateways(cidrs []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, cidr := range cidrs {
		out = append(out, cidr.Addr().Next())
	}
	return out
}

// WaitNetwork returns the node's own addresses in its pod CIDRs once the pod
// network is served.
func (a *Agent) WaitNetwork(ctx context.Context) ([]netip.Addr, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// A node whose pod addresses are all in use serves, too.
		if n := a.network.Load(); n != nil && !errors.Is(n.server.Ready(), cni.ErrNotReady) {
			return n.gateways, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the pod network: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// WaitServing waits until Services are in the data path and the ingress
// listens.
func (a *Agent) WaitServing(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := a.ingress.Ready()
		if err == nil && a.proxy.Synced() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for proxy and ingress: %w (ingress: %v)", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
