// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// retry is when what could not be written is tried again.
const retry = 2 * time.Second

// ControllerConfig says what a Controller works on.
type ControllerConfig struct {
	Client kubernetes.Interface
	// Informers and Pools are started by the caller, after NewController.
	Informers informers.SharedInformerFactory
	Pools     cache.SharedIndexInformer
	Recorder  record.EventRecorder
	Log       *slog.Logger
}

// Controller hands out addresses. One of a cluster runs at a time.
type Controller struct {
	cfg      ControllerConfig
	services corelisters.ServiceLister
	synced   []cache.InformerSynced
	changed  chan struct{}
	// told are the problems that users were told of.
	told map[Problem]bool
}

// NewController returns a Controller; it changes nothing before Run.
func NewController(cfg ControllerConfig) (*Controller, error) {
	services := cfg.Informers.Core().V1().Services()
	c := &Controller{cfg: cfg, services: services.Lister(), changed: make(chan struct{}, 1), told: map[Problem]bool{}}
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), cfg.Pools} {
		handle, err := informer.AddEventHandler(notify(c.touch))
		if err != nil {
			return nil, fmt.Errorf("watch for load-balancer addresses: %w", err)
		}
		c.synced = append(c.synced, handle.HasSynced)
	}
	return c, nil
}

// notify calls touch whenever an object changes.
func notify(touch func()) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { touch() }, UpdateFunc: func(any, any) { touch() }, DeleteFunc: func(any) { touch() },
	}
}

func (c *Controller) touch() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Run hands out addresses until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	for {
		if err := c.sync(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("write load-balancer addresses", "err", err, "retry", retry)
			time.AfterFunc(retry, c.touch)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		}
	}
}

func (c *Controller) sync(ctx context.Context) error {
	services, err := c.services.List(labels.Everything())
	if err != nil {
		return err
	}
	allocation, problems := Allocate(c.pools(), services)
	c.tell(services, problems)
	var errs []error
	for _, s := range services {
		if addrs, ours := allocation[nameOf(s)]; ours {
			errs = append(errs, c.write(ctx, s, addrs))
		}
	}
	return errors.Join(errs...)
}

// pools reads all AddressPools; what is wrong with one is an event on it.
func (c *Controller) pools() []Pool {
	pools, bad := readPools(c.cfg.Pools)
	for object, err := range bad {
		key := Problem{nameOfPool(object), err.Error()}
		if !c.told[key] {
			c.told[key] = true
			c.cfg.Recorder.Event(object, corev1.EventTypeWarning, "InvalidAddressPool", err.Error())
			c.cfg.Log.Warn("address pool", "pool", object.GetName(), "err", err)
		}
	}
	return pools
}

func readPools(informer cache.SharedIndexInformer) ([]Pool, map[*unstructured.Unstructured]error) {
	var pools []Pool
	bad := map[*unstructured.Unstructured]error{}
	for _, item := range informer.GetStore().List() {
		object, ok := item.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		pool, err := Read(object)
		if err != nil {
			bad[object] = err
		}
		pools = append(pools, pool)
	}
	return pools, bad
}

// write brings the status of a Service to its addresses.
func (c *Controller) write(ctx context.Context, s *corev1.Service, addrs []netip.Addr) error {
	var want []corev1.LoadBalancerIngress
	for _, addr := range addrs {
		want = append(want, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
	}
	if reflect.DeepEqual(s.Status.LoadBalancer.Ingress, want) {
		return nil
	}
	s = s.DeepCopy()
	s.Status.LoadBalancer.Ingress = want
	_, err := c.cfg.Client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{})
	switch {
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return nil // The change comes with a note of its own.
	case err != nil:
		return fmt.Errorf("write status of Service %s: %w", nameOf(s), err)
	case len(addrs) > 0:
		c.cfg.Recorder.Eventf(s, corev1.EventTypeNormal, "AddressAssigned", "Assigned %v", addrs)
	}
	return nil
}

// tell makes an event of each problem, once for as long as it stays.
func (c *Controller) tell(services []*corev1.Service, problems []Problem) {
	now := make(map[Problem]bool, len(problems))
	for _, p := range problems {
		now[p] = true
		if c.told[p] {
			continue
		}
		c.cfg.Log.Warn("no load-balancer address", "service", p.Service, "problem", p.Message)
		for _, s := range services {
			if nameOf(s) == p.Service {
				c.cfg.Recorder.Event(s, corev1.EventTypeWarning, "AddressNotAssigned", p.Message)
			}
		}
	}
	for p := range c.told {
		if p.Service.Namespace == "" {
			now[p] = true
		}
	}
	c.told = now
}
