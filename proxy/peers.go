// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// watchNodes has the addresses of other nodes at hand.
func (p *Proxy) watchNodes(nodes coreinformers.NodeInformer) error {
	p.nodes = nodes.Lister()
	handle, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { p.nodeChanged() },
		DeleteFunc: func(any) { p.nodeChanged() },
		UpdateFunc: func(before, now any) {
			// Most changes are heartbeats.
			if was, is := before.(*corev1.Node), now.(*corev1.Node); zoneOf(was) != zoneOf(is) || takesTraffic(was) != takesTraffic(is) || !slices.Equal(was.Status.Addresses, is.Status.Addresses) {
				p.nodeChanged()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("proxy: watch nodes: %w", err)
	}
	p.synced = append(p.synced, handle.HasSynced)
	return nil
}

func zoneOf(node *corev1.Node) string { return node.Labels[corev1.LabelTopologyZone] }

// facts are those of this node with its addresses.
func (p *Proxy) facts(addrs []netip.Addr) Facts {
	nodes, err := p.nodes.List(labels.Everything())
	if err != nil {
		nodes = nil // A lister reads memory and does not fail.
	}
	facts := NewFacts(p.cfg.NodeName, addrs, nodes)
	facts.NodePorts, facts.Balancing = p.ports, p.cfg.Balancing
	facts.Forwarding = p.cfg.Forwarding
	return facts
}
