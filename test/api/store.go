// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// history is how many changes of a kind can be watched from, at least. Who has
// seen less must list again.
const history = 1 << 16

// Object is what the API holds.
type Object interface {
	runtime.Object
	metav1.Object
}

// event is a change of an object.
type event struct {
	change  watch.EventType
	version uint64
	// item is the object after the change; for a deletion, as it was.
	// before is nil for one that is new.
	item, before *item
}

// collection are all objects of a kind, and how they have changed.
type collection struct {
	items map[types.NamespacedName]*item
	// events are the last ones; those up to version forgotten are not there
	// any more.
	events    []event
	forgotten uint64
	// changed is closed by the next change.
	changed chan struct{}
}

// store holds all objects.
type store struct {
	mu          sync.Mutex
	version     uint64
	collections map[schema.GroupVersionResource]*collection
}

func newStore() *store {
	return &store{version: 1, collections: map[schema.GroupVersionResource]*collection{}}
}

// kindOf is the kind of an object, and the resource that has it in its path.
func kindOf(obj runtime.Object) (schema.GroupVersionKind, schema.GroupVersionResource, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, schema.GroupVersionResource{}, err
	}
	resource, _ := meta.UnsafeGuessKindToResource(kinds[0])
	return kinds[0], resource, nil
}

func nameOf(obj metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// collection returns that of a resource; s.mu is locked.
func (s *store) collection(resource schema.GroupVersionResource) *collection {
	c := s.collections[resource]
	if c == nil {
		c = &collection{items: map[types.NamespacedName]*item{}, changed: make(chan struct{})}
		s.collections[resource] = c
	}
	return c
}

// put enters a copy of an object, and returns it as it is kept.
func (s *store) put(given Object) (*item, error) {
	kind, resource, err := kindOf(given)
	if err != nil {
		return nil, err
	}
	if given.GetName() == "" {
		return nil, fmt.Errorf("the object has no name")
	}
	obj := given.DeepCopyObject().(Object)
	obj.GetObjectKind().SetGroupVersionKind(kind)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(resource)
	s.version++
	e := event{change: watch.Added, version: s.version, before: c.items[nameOf(obj)]}
	obj.SetResourceVersion(strconv.FormatUint(s.version, 10))
	if e.before != nil {
		e.change = watch.Modified
		obj.SetUID(e.before.object.GetUID())
		obj.SetCreationTimestamp(e.before.object.GetCreationTimestamp())
	}
	if obj.GetUID() == "" {
		obj.SetUID(types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", s.version)))
	}
	if created := obj.GetCreationTimestamp(); created.IsZero() {
		obj.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	}
	e.item = &item{kind: kind, object: obj}
	c.items[nameOf(obj)] = e.item
	c.add(e)
	return e.item, nil
}

// delete takes an object out and returns it as it was; nil if there is none.
func (s *store) delete(resource schema.GroupVersionResource, name types.NamespacedName) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(resource)
	before := c.items[name]
	if before == nil {
		return nil
	}
	s.version++
	gone := &item{kind: before.kind, object: before.object.DeepCopyObject().(Object)}
	gone.object.SetResourceVersion(strconv.FormatUint(s.version, 10))
	delete(c.items, name)
	c.add(event{watch.Deleted, s.version, gone, before})
	return gone
}

// add tells those who watch; the store is locked.
func (c *collection) add(e event) {
	if len(c.events) >= 2*history {
		c.forgotten = c.events[history-1].version
		c.events = slices.Clone(c.events[history:])
	}
	c.events = append(c.events, e)
	close(c.changed)
	c.changed = make(chan struct{})
}

// list returns all objects of a resource, and the version that they have
// together.
func (s *store) list(resource schema.GroupVersionResource) ([]*item, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := slices.Collect(maps.Values(s.collection(resource).items))
	slices.SortFunc(items, func(a, b *item) int { return compareNames(nameOf(a.object), nameOf(b.object)) })
	return items, s.version
}

func (s *store) get(resource schema.GroupVersionResource, name types.NamespacedName) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.collection(resource).items[name]
}

// since returns the changes after a version, and a channel that is closed by
// the next one. It fails when some are forgotten.
func (s *store) since(resource schema.GroupVersionResource, version uint64) (events []event, now uint64, changed chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(resource)
	if version < c.forgotten {
		return nil, s.version, nil, false
	}
	first := sort.Search(len(c.events), func(i int) bool { return c.events[i].version > version })
	return c.events[first:len(c.events):len(c.events)], s.version, c.changed, true
}
