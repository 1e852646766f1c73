// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// tracker counts changes of objects until they are written, and knows when
// endpoints changed that are not written yet. It is safe for concurrent use.
type tracker struct {
	metrics *kubeProxy
	now     func() time.Time
	// began tells changes from what is there at the start, which took no time
	// of ours.
	began time.Time

	mu sync.Mutex
	// waiting holds what no write has begun with, writing what one has.
	waiting, writing waiting
}

type waiting struct {
	services map[string]bool
	slices   int
	triggers []trigger
}

// trigger is when a pod or a Service changed, so that endpoints did.
type trigger struct {
	at     time.Time
	family string
}

func newTracker(m *kubeProxy, now func() time.Time) *tracker {
	return &tracker{metrics: m, now: now, began: now(), waiting: nothing(), writing: nothing()}
}

func nothing() waiting { return waiting{services: map[string]bool{}} }

func (t *tracker) service(s *corev1.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.serviceChanges.Inc()
	t.waiting.services[objectName(s)] = true
	t.tell()
}

// slice notes a change of an EndpointSlice. The time in one that is gone is of
// the change before.
func (t *tracker) slice(s *discoveryv1.EndpointSlice, gone bool) {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.endpointChangesTotal.Inc()
	t.waiting.slices++
	at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err == nil && !gone && at.After(t.began) {
		t.waiting.triggers = append(t.waiting.triggers, trigger{at, string(s.AddressType)})
	}
	t.tell()
}

// begin notes that a write begins, with all that was changed until now.
func (t *tracker) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(t.writing.services, t.waiting.services)
	t.writing.slices += t.waiting.slices
	t.writing.triggers = slices.Concat(t.writing.triggers, t.waiting.triggers)
	t.waiting = nothing()
}

// end notes that the write is through. What a failed one began with goes on
// waiting.
func (t *tracker) end(err error) {
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.writing.triggers {
		t.metrics.programming.WithLabelValues(one.family).Observe(t.now().Sub(one.at).Seconds())
	}
	t.writing = nothing()
	t.tell()
}

func (t *tracker) tell() {
	t.metrics.servicesPending.Set(float64(len(t.waiting.services) + len(t.writing.services)))
	t.metrics.endpointsPending.Set(float64(t.waiting.slices + t.writing.slices))
}
