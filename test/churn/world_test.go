// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"errors"
	"slices"
	"sync"

	"slipway.dev/slipway/test/api"
)

// steadyPlaces and changingPlaces are how many Services there are at most.
const steadyPlaces, changingPlaces = 4, 16

// world is what the API has, and the model of it. One goroutine changes it.
type world struct {
	api     *api.Server
	model   *model
	maker   *maker
	targets []*target
	steady  []*service

	mu sync.Mutex
	// changing are nil where there is no Service now.
	changing []*service
	changes  int
}

// begin makes the first Services.
func (w *world) begin() error {
	var errs []error
	for place := range steadyPlaces + changingPlaces {
		s := w.maker.steady(place)
		if place >= steadyPlaces {
			s = w.maker.service(place)
			w.changing = append(w.changing, s)
		} else {
			w.steady = append(w.steady, s)
		}
		errs = append(errs, w.put(s.objects(w.targets)...))
	}
	return errors.Join(errs...)
}

func (w *world) put(objects ...api.Object) error {
	var errs []error
	for _, obj := range objects {
		errs = append(errs, w.model.note(obj, false, func() error { return w.api.Put(obj) }))
	}
	return errors.Join(errs...)
}

func (w *world) delete(objects ...api.Object) error {
	var errs []error
	for _, obj := range objects {
		errs = append(errs, w.model.note(obj, true, func() error { return w.api.Delete(obj) }))
	}
	return errors.Join(errs...)
}

// change changes one thing.
func (w *world) change() error {
	i := w.maker.IntN(len(w.changing))
	s := w.changing[i]
	w.changes++
	switch kind := w.maker.IntN(12); {
	case s == nil:
		s = w.maker.service(steadyPlaces + i)
		w.set(i, s)
		return w.put(w.shuffled(s)...)
	case kind == 0:
		w.set(i, nil)
		w.maker.freePorts(s)
		return w.delete(w.shuffled(s)...)
	case kind == 1:
		w.alter(func() { w.maker.setPorts(s) })
		return w.put(w.shuffled(s)...)
	case kind == 2:
		w.maker.setPolicies(s)
		return w.put(s.object())
	}
	s.endpoints[w.maker.IntN(len(s.endpoints))] = w.maker.state()
	return w.put(s.objects(w.targets)[1:]...)
}

func (w *world) set(i int, s *service) {
	w.alter(func() { w.changing[i] = s })
}

// alter changes what pick reads.
func (w *world) alter(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// shuffled are the objects of a Service in any order, as controllers make them.
func (w *world) shuffled(s *service) []api.Object {
	objects := s.objects(w.targets)
	w.maker.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	return slices.Clip(objects)
}
