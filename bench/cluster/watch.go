// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/bench/sandbox"
)

const (
	// watched objects are created one after the other, watchPause apart.
	watched    = 500
	watchPause = 5 * time.Millisecond
)

// latencies are times until a watcher on another connection has the event of
// a create, in milliseconds: since the request was sent, and since it was
// answered, which is negative when the event was first.
type latencies struct{ sent, answered []float64 }

// created is when a create was sent and answered.
type created struct{ sent, answered time.Time }

func timeWatch(ctx context.Context, kubeconfig string) (latencies, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var none latencies
	writer, err := connect(kubeconfig)
	if err != nil {
		return none, err
	}
	reader, err := connect(kubeconfig)
	if err != nil {
		return none, err
	}
	objects := reader.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	list, err := objects.List(ctx, metav1.ListOptions{})
	if err != nil {
		return none, err
	}
	events, err := objects.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return none, err
	}
	defer events.Stop()
	seen := make(chan map[string]time.Time, 1)
	go func() { seen <- collect(events, watched) }()
	made, err := createSlowly(ctx, writer)
	if err != nil {
		return none, err
	}
	arrived := <-seen
	if len(arrived) < watched {
		return none, errors.New("the watch has ended early")
	}
	return match(made, arrived), nil
}

func match(made map[string]created, arrived map[string]time.Time) latencies {
	var l latencies
	for name, at := range made {
		l.sent = append(l.sent, arrived[name].Sub(at.sent).Seconds()*1e3)
		l.answered = append(l.answered, arrived[name].Sub(at.answered).Seconds()*1e3)
	}
	return l
}

// createSlowly creates what is watched.
func createSlowly(ctx context.Context, client kubernetes.Interface) (map[string]created, error) {
	made := map[string]created{}
	for i := range watched {
		name := fmt.Sprintf("watched-%d", i)
		sent := time.Now()
		if err := create(ctx, client, name); err != nil {
			return nil, err
		}
		made[name] = created{sent, time.Now()}
		if err := sandbox.Rest(ctx, watchPause); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// collect notes when each of so many objects arrives.
func collect(events watch.Interface, count int) map[string]time.Time {
	arrived := map[string]time.Time{}
	for event := range events.ResultChan() {
		now := time.Now()
		if object, err := meta.Accessor(event.Object); err == nil && event.Type == watch.Added {
			arrived[object.GetName()] = now
		}
		if len(arrived) == count {
			break
		}
	}
	return arrived
}
