// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// changes collects what has changed until it is taken. It is safe for
// concurrent use.
type changes struct {
	mu  sync.Mutex
	now change
	// note holds at most one note that there is something to take.
	note chan struct{}
}

// change names what has to be compiled again.
type change struct {
	// services and pods are NAMESPACE/NAME.
	services, pods map[string]bool
	// node says that something about this or another node has changed.
	node bool
}

func newChanges() *changes {
	return &changes{now: emptyChange(), note: make(chan struct{}, 1)}
}

func emptyChange() change {
	return change{services: map[string]bool{}, pods: map[string]bool{}}
}

func (c *changes) add(enter func(*change)) {
	c.mu.Lock()
	enter(&c.now)
	c.mu.Unlock()
	select {
	case c.note <- struct{}{}:
	default:
	}
}

func (c *changes) take() change {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.now
	c.now = emptyChange()
	return out
}

// last is the object that an informer tells about, also when it has missed
// the deletion.
func last(obj any) any {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return obj
}

// listen has a handler of an informer that is called for the object before and
// after each change.
func (p *Proxy) listen(informer cache.SharedIndexInformer, changed func(obj any)) error {
	handle, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			p.track(obj, false)
			changed(obj)
		},
		DeleteFunc: func(obj any) {
			p.track(last(obj), true)
			changed(last(obj))
		},
		UpdateFunc: func(old, now any) {
			p.track(now, false)
			changed(old)
			changed(now)
		},
	})
	if err != nil {
		return fmt.Errorf("proxy: watch objects: %w", err)
	}
	p.synced = append(p.synced, handle.HasSynced)
	return nil
}

func (p *Proxy) touch(enter func(*change)) {
	p.health.Changed()
	p.metrics.kubeProxy.queue()
	p.changes.add(enter)
}

// track counts a change, if it is one of what kube-proxy counts.
func (p *Proxy) track(obj any, gone bool) {
	switch s := obj.(type) {
	case *corev1.Service:
		p.tracker.service(s)
	case *discoveryv1.EndpointSlice:
		p.tracker.slice(s, gone)
	}
}

func (p *Proxy) serviceChanged(obj any) {
	if s, ok := obj.(*corev1.Service); ok {
		p.touch(func(c *change) { c.services[objectName(s)] = true })
	}
}

func (p *Proxy) sliceChanged(obj any) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	service := serviceOf(s)
	p.ofService.set(service, s.Name, p.sliceNow(s, service))
	p.touch(func(c *change) { c.services[service] = true })
}

// sliceNow is what a slice is now, if it still is one of the Service.
func (p *Proxy) sliceNow(s *discoveryv1.EndpointSlice, service string) *discoveryv1.EndpointSlice {
	obj, known, err := p.slices.Get(s)
	if err != nil || !known {
		return nil
	}
	if now, ok := obj.(*discoveryv1.EndpointSlice); ok && serviceOf(now) == service {
		return now
	}
	return nil
}

func (p *Proxy) podChanged(obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if asksForPorts(pod) {
		p.touch(func(c *change) { c.pods[podName(pod)] = true })
	}
	if _, err := p.pods.Pods(pod.Namespace).Get(pod.Name); err != nil {
		// There may be connections to it.
		p.stale.judge()
	}
}

// nodeChanged is called for all that Facts may depend on.
func (p *Proxy) nodeChanged() { p.touch(func(c *change) { c.node = true }) }

// asksForPorts tells whether a pod has host ports.
func asksForPorts(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.HostPort != 0 })
	})
}
