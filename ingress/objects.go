// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// objects are the caches of what is compiled.
type objects struct {
	ingresses networkinglisters.IngressLister
	classes   networkinglisters.IngressClassLister
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
	secrets   corelisters.SecretLister
	// secretFactory watches only Secrets of type kubernetes.io/tls.
	secretFactory informers.SharedInformerFactory
	synced        []cache.InformerSynced
}

func watchObjects(cfg Config, touch func()) (*objects, error) {
	networking, core := cfg.Informers.Networking().V1(), cfg.Informers.Core().V1()
	discovery := cfg.Informers.Discovery().V1()
	factory := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)).String()
	}))
	o := &objects{
		ingresses: networking.Ingresses().Lister(), classes: networking.IngressClasses().Lister(),
		services: core.Services().Lister(), slices: discovery.EndpointSlices().Lister(),
		secrets: factory.Core().V1().Secrets().Lister(), secretFactory: factory,
	}
	for _, informer := range []cache.SharedIndexInformer{
		networking.Ingresses().Informer(), networking.IngressClasses().Informer(), core.Services().Informer(),
		discovery.EndpointSlices().Informer(), factory.Core().V1().Secrets().Informer(),
	} {
		handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { touch() }, UpdateFunc: func(any, any) { touch() }, DeleteFunc: func(any) { touch() },
		})
		if err != nil {
			return nil, err
		}
		o.synced = append(o.synced, handle.HasSynced)
	}
	return o, nil
}

func (o *objects) list() (out Objects, err error) {
	everything := labels.Everything()
	if out.Ingresses, err = o.ingresses.List(everything); err != nil {
		return out, err
	}
	if out.Classes, err = o.classes.List(everything); err != nil {
		return out, err
	}
	if out.Services, err = o.services.List(everything); err != nil {
		return out, err
	}
	if out.Slices, err = o.slices.List(everything); err != nil {
		return out, err
	}
	out.Secrets, err = o.secrets.List(everything)
	return out, err
}
