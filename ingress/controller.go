// SPDX-License-Identifier: Apache-2.0

// Package ingress serves Ingress objects on the node's ports for HTTP and
// HTTPS. Objects compile into one immutable route table, which is swapped as a
// whole; there is no reload, and running requests keep the table they began
// with. Requests go straight to the endpoints of a Service, not through its
// address. Follows the reference of Ingress, networking.k8s.io/v1.
//
// It owns the status of the Ingresses of its class and its two listeners. New,
// Run and Ready may be used from any goroutine; only one Run at a time.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// ControllerName is what the IngressClass of this controller names.
const ControllerName = "slipway.dev/ingress"

// ClassName is the IngressClass that a cluster gets.
const ClassName = "slipway"

// coalesce is how long changes are collected before a table is made.
const coalesce = 20 * time.Millisecond

// Class is the IngressClass of this controller.
func Class(isDefault bool) *networkingv1.IngressClass {
	class := &networkingv1.IngressClass{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "IngressClass"},
		ObjectMeta: metav1.ObjectMeta{Name: ClassName},
		Spec:       networkingv1.IngressClassSpec{Controller: ControllerName},
	}
	if isDefault {
		class.Annotations = map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
	}
	return class
}

// Config of a Controller.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	Client   kubernetes.Interface
	// Informers are started by the caller, after New.
	Informers informers.SharedInformerFactory
	// HTTPAddr and HTTPSAddr are listened on, as ":80".
	HTTPAddr, HTTPSAddr string
	// Addresses are written into the status of Ingresses.
	Addresses []netip.Addr
	// Registry gets the metrics; may be nil.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Client == nil || c.Informers == nil || c.Log == nil:
		return errors.New("ingress: client, informers and log must be set")
	case c.HTTPAddr == "" || c.HTTPSAddr == "":
		return errors.New("ingress: addresses to listen on must be set")
	case len(c.Addresses) == 0:
		return errors.New("ingress: an address for the status must be set")
	}
	return nil
}

// Controller serves the Ingresses of a cluster on one node.
type Controller struct {
	cfg     Config
	handler *handler
	metrics *metrics
	objects *objects
	events  record.EventRecorder
	// dirty holds at most one note that something has changed.
	dirty   chan struct{}
	serving atomic.Bool
	// told are the problems that have been told about.
	told map[string]bool
}

// New makes a Controller and registers its informers; it serves nothing yet.
func New(cfg Config) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Controller{cfg: cfg, dirty: make(chan struct{}, 1)}
	var err error
	if c.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	c.handler = newHandler(c.metrics, cfg.Log)
	if c.objects, err = watchObjects(cfg, c.touch); err != nil {
		return nil, fmt.Errorf("ingress: watch objects: %w", err)
	}
	return c, nil
}

func (c *Controller) touch() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// Ready returns nil once requests are served from a complete table.
func (c *Controller) Ready() error {
	if !c.serving.Load() {
		return errors.New("ingress does not serve yet")
	}
	return nil
}

// Run serves until ctx ends; then running requests may finish for a moment.
func (c *Controller) Run(ctx context.Context) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.cfg.Client.CoreV1().Events("")})
	c.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "slipway-ingress", Host: c.cfg.NodeName})
	c.objects.secretFactory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), c.objects.synced...) {
		return nil
	}
	servers, err := newServers(c.cfg, c.handler)
	if err != nil {
		return err
	}
	objects, err := c.reload()
	if err != nil {
		servers.close()
		return err
	}
	c.serving.Store(true)
	defer c.serving.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan struct{})
	go func() {
		defer close(updates)
		c.follow(ctx, objects)
	}()
	err = servers.run(ctx)
	cancel()
	<-updates
	return err
}

// follow makes a new table and new status after each change.
func (c *Controller) follow(ctx context.Context, serving Objects) {
	c.writeStatus(ctx, serving)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(coalesce):
		}
		serving, err := c.reload()
		if err != nil {
			c.cfg.Log.Error("make route table", "err", err)
			continue
		}
		// Only now does the table that the status speaks of serve.
		c.writeStatus(ctx, serving)
	}
}

// reload puts a table in place and returns the objects it was made of.
func (c *Controller) reload() (Objects, error) {
	objects, err := c.objects.list()
	if err != nil {
		return Objects{}, err
	}
	table, problems := Compile(objects)
	c.handler.table.Store(table)
	c.metrics.reloaded(table)
	c.tell(problems)
	return objects, nil
}

// tell writes an event for each problem, once for as long as it stays.
func (c *Controller) tell(problems []Problem) {
	now := make(map[string]bool, len(problems))
	for _, p := range problems {
		key := string(p.Ingress.UID) + p.Reason + p.Message
		if now[key] = true; !c.told[key] {
			c.events.Event(p.Ingress, corev1.EventTypeWarning, p.Reason, p.Message)
		}
	}
	c.told = now
}
