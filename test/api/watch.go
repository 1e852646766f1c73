// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	// bookmarkEvery is how often who watches is told the version.
	bookmarkEvery = time.Minute
	// watchBuffer is how much is sent at once.
	watchBuffer = 64 << 10
)

// watcher sends events to one client.
type watcher struct {
	store    *store
	resource schema.GroupVersionResource
	selected selection
	enc      *encoding
	out      *bufio.Writer
	flush    func()
	// version is what the client knows.
	version uint64
}

// watch sends changes until the client goes or its time is over.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, resource schema.GroupVersionResource, selected selection) {
	query := r.URL.Query()
	ctx := r.Context()
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil && seconds > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
		ctx = limited
	}
	enc := encodingFor(r)
	one := &watcher{store: s.store, resource: resource, selected: selected, enc: enc, out: bufio.NewWriterSize(w, watchBuffer)}
	one.flush = func() {
		if one.out.Flush() == nil {
			_ = http.NewResponseController(w).Flush()
		}
	}
	initial, err := one.begin(query)
	if err != nil {
		fail(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		return
	}
	if _, _, _, known := s.store.since(resource, one.version); !known {
		fail(w, http.StatusGone, metav1.StatusReasonExpired, fmt.Sprintf("too old resource version: %d", one.version))
		return
	}
	w.Header().Set("Content-Type", enc.watchType)
	w.WriteHeader(http.StatusOK)
	if one.sendInitial(initial, query.Get("sendInitialEvents") == "true") == nil {
		one.follow(ctx, query.Get("allowWatchBookmarks") == "true")
	}
}

// begin finds the version to watch from, and what is to be sent before.
func (o *watcher) begin(query url.Values) ([]*item, error) {
	from := query.Get("resourceVersion")
	if query.Get("sendInitialEvents") != "true" && from != "" && from != "0" {
		var err error
		if o.version, err = strconv.ParseUint(from, 10, 64); err != nil {
			return nil, fmt.Errorf("resourceVersion %q: expected a number", from)
		}
		return nil, nil
	}
	var items []*item
	items, o.version = o.store.list(o.resource)
	return items, nil
}

// sendInitial sends what there is. Who streams the list is told its end.
func (o *watcher) sendInitial(items []*item, streamed bool) error {
	for _, i := range items {
		if !o.selected.has(i) {
			continue
		}
		if err := o.send(watch.Added, i); err != nil {
			return err
		}
	}
	if streamed {
		if err := o.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}); err != nil {
			return err
		}
	}
	o.flush()
	return nil
}

func (o *watcher) follow(ctx context.Context, bookmarks bool) {
	tick := time.NewTicker(bookmarkEvery)
	defer tick.Stop()
	for {
		events, now, changed, known := o.store.since(o.resource, o.version)
		if !known {
			return // It is told when it watches again.
		}
		for _, e := range events {
			if o.pass(e) != nil {
				return
			}
		}
		if o.version = now; len(events) > 0 {
			o.flush()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if bookmarks && o.bookmark(nil) != nil {
				return
			}
			o.flush()
		}
	}
}

// pass sends an event as it looks to someone who sees only what is selected.
func (o *watcher) pass(e event) error {
	is, was := e.change != watch.Deleted && o.selected.has(e.item), o.selected.has(e.before)
	switch {
	case is && was:
		return o.send(watch.Modified, e.item)
	case is:
		return o.send(watch.Added, e.item)
	case was:
		return o.send(watch.Deleted, e.item)
	}
	return nil
}

func (o *watcher) send(change watch.EventType, i *item) error {
	object, err := o.enc.object(i)
	if err != nil {
		return err
	}
	frame, err := o.enc.frame(string(change), object)
	if err != nil {
		return err
	}
	_, err = o.out.Write(frame)
	return err
}

// bookmark tells the version in an object of the kind without anything else.
func (o *watcher) bookmark(annotations map[string]string) error {
	kind := kindFor(o.resource)
	var obj Object = &metav1.PartialObjectMetadata{}
	if empty, err := scheme.Scheme.New(kind); err == nil {
		if known, ok := empty.(Object); ok {
			obj = known
		}
	}
	obj.GetObjectKind().SetGroupVersionKind(kind)
	obj.SetResourceVersion(strconv.FormatUint(o.version, 10))
	obj.SetAnnotations(annotations)
	return o.send(watch.Bookmark, &item{kind: kind, object: obj})
}
