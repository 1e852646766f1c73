// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"slipway.dev/slipway/bpf"
)

// serviceRanges tells the data path from which ranges cluster addresses are taken
// (KEP-1880), so that what is for one that no Service has does not leave the node.
type serviceRanges struct {
	datapath Datapath
	objects  networkinglisters.ServiceCIDRLister
	synced   cache.InformerSynced
}

// watchServiceRanges makes them. An API without ServiceCIDRs is one of before
// Kubernetes 1.33: nothing is known then, and nothing is waited for.
func (p *Proxy) watchServiceRanges(all networkinginformers.ServiceCIDRInformer) error {
	informer := all.Informer()
	err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if !apierrors.IsNotFound(err) {
			cache.DefaultWatchErrorHandler(ctx, r, err)
		}
	})
	if err != nil {
		return fmt.Errorf("proxy: watch ServiceCIDRs: %w", err)
	}
	handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { p.nodeChanged() },
		UpdateFunc: func(any, any) { p.nodeChanged() },
		DeleteFunc: func(any) { p.nodeChanged() },
	})
	if err != nil {
		return fmt.Errorf("proxy: watch ServiceCIDRs: %w", err)
	}
	p.ranges = &serviceRanges{datapath: p.cfg.Datapath, objects: all.Lister(), synced: handle.HasSynced}
	return nil
}

// write brings the data path to the objects. What an earlier process has written
// stays until they are known.
func (s *serviceRanges) write() error {
	if !s.synced() {
		return nil
	}
	known, err := s.datapath.Sources()
	if err != nil {
		return err
	}
	has, wants := known[bpf.ServiceRanges], s.wanted()
	gone := slices.DeleteFunc(slices.Clone(has), func(r netip.Prefix) bool { return slices.Contains(wants, r) })
	missing := slices.DeleteFunc(wants, func(r netip.Prefix) bool { return slices.Contains(has, r) })
	return errors.Join(s.datapath.SetSources(bpf.ServiceRanges, missing), s.datapath.DeleteSources(bpf.ServiceRanges, gone))
}

// wanted are the ranges of all objects; the API takes none that cannot be parsed.
func (s *serviceRanges) wanted() []netip.Prefix {
	objects, err := s.objects.List(labels.Everything())
	if err != nil {
		objects = nil // A lister reads memory and does not fail.
	}
	var out []netip.Prefix
	for _, o := range objects {
		for _, text := range o.Spec.CIDRs {
			if r, err := netip.ParsePrefix(text); err == nil {
				out = append(out, r.Masked())
			}
		}
	}
	return out
}
