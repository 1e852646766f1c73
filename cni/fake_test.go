// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"slipway.dev/slipway/bpf"
)

var errInjected = errors.New("injected fault")

// fakeDatapath remembers what it was told, and fails where a test wants.
type fakeDatapath struct {
	mu        sync.Mutex
	attached  map[int]bool
	endpoints map[int]bpf.Endpoint
	// fail holds the names of the methods that fail.
	fail map[string]bool
}

func newFakeDatapath() *fakeDatapath {
	return &fakeDatapath{attached: map[int]bool{}, endpoints: map[int]bpf.Endpoint{}, fail: map[string]bool{}}
}

func (f *fakeDatapath) inject(method string, fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = fail
}

// do runs change unless the method is to fail.
func (f *fakeDatapath) do(method string, change func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail[method] {
		return errInjected
	}
	change()
	return nil
}

func (f *fakeDatapath) AttachPod(ifindex int) error {
	return f.do("AttachPod", func() { f.attached[ifindex] = true })
}

func (f *fakeDatapath) DetachPod(ifindex int) error {
	return f.do("DetachPod", func() { delete(f.attached, ifindex) })
}

func (f *fakeDatapath) PutEndpoint(e bpf.Endpoint) error {
	return f.do("PutEndpoint", func() { f.endpoints[e.Ifindex] = e })
}

func (f *fakeDatapath) DeleteEndpoint(ifindex int) error {
	return f.do("DeleteEndpoint", func() { delete(f.endpoints, ifindex) })
}

func (f *fakeDatapath) Endpoints() ([]bpf.Endpoint, error) {
	var all []bpf.Endpoint
	err := f.do("Endpoints", func() { all = slices.Collect(maps.Values(f.endpoints)) })
	return all, err
}

// counts returns how many pod interfaces have programs, and endpoints.
func (f *fakeDatapath) counts() [2]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [2]int{len(f.attached), len(f.endpoints)}
}
