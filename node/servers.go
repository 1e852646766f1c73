// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"slipway.dev/slipway/node/balancer"
)

// startBalancer gives the components of this node one address for the API.
func (m *member) startBalancer() (*balancer.Balancer, error) {
	api, err := balancer.Listen(m.cfg.localAPI(), m.joined.Servers, m.log)
	if err != nil {
		return nil, err
	}
	m.sup.Start("API connections", stageAPI, api.Run)
	return api, nil
}

// followServers keeps the balancer's list, and the one on disk, as the
// endpoints of the Service kubernetes are.
func (m *member) followServers(ctx context.Context, client kubernetes.Interface, api *balancer.Balancer) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(metav1.NamespaceDefault),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = discoveryv1.LabelServiceName + "=kubernetes"
		}))
	endpoints := factory.Discovery().V1().EndpointSlices()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := endpoints.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(_, _ any) { notify() }, DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		return fmt.Errorf("watch servers: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if err := m.updateServers(endpoints.Lister(), api); err != nil {
			m.log.Warn("update list of servers", "err", err)
		}
	}
}

func (m *member) updateServers(lister discoverylisters.EndpointSliceLister, api *balancer.Balancer) error {
	all, err := lister.EndpointSlices(metav1.NamespaceDefault).List(labels.Everything())
	if err != nil {
		return err
	}
	found := serverAddresses(all)
	if len(found) == 0 || slices.Equal(found, api.Servers()) {
		return nil
	}
	m.log.Info("API servers", "addresses", found)
	api.SetServers(found)
	m.joined.Servers = found
	return m.joined.write(m.cfg)
}

// serverAddresses lists the ready endpoints in order.
func serverAddresses(all []*discoveryv1.EndpointSlice) []string {
	var found []string
	for _, slice := range all {
		if len(slice.Ports) == 0 || slice.Ports[0].Port == nil {
			continue
		}
		port := strconv.Itoa(int(*slice.Ports[0].Port))
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, address := range e.Addresses {
				found = append(found, net.JoinHostPort(address, port))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
