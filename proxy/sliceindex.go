// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"
	"strings"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// sliceIndex finds the EndpointSlices of a Service. An index of the informer would do
// the same with three times the memory. It is safe for concurrent use.
type sliceIndex struct {
	mu sync.RWMutex
	// of are the slices by NAMESPACE/NAME of their Service, in the order of their
	// names, so that the same objects give the same tables.
	of map[string][]*discoveryv1.EndpointSlice
}

func newSliceIndex() *sliceIndex {
	return &sliceIndex{of: map[string][]*discoveryv1.EndpointSlice{}}
}

// set enters a slice of a Service, or takes it out when now is nil.
func (x *sliceIndex) set(service, name string, now *discoveryv1.EndpointSlice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	// Who has the old list goes on reading it.
	found := slices.Clone(x.of[service])
	i, known := slices.BinarySearchFunc(found, name, func(s *discoveryv1.EndpointSlice, name string) int {
		return strings.Compare(s.Name, name)
	})
	switch {
	case now == nil && known:
		found = slices.Delete(found, i, i+1)
	case known:
		found[i] = now
	case now != nil:
		found = slices.Insert(found, i, now)
	}
	if len(found) == 0 {
		delete(x.of, service)
		return
	}
	x.of[service] = slices.Clip(found)
}

// slices are those of a Service.
func (x *sliceIndex) slices(service string) []*discoveryv1.EndpointSlice {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.of[service]
}
