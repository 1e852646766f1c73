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
)

const (
	// watched objects are created one after the other, watchPause apart.
	watched    = 500
	watchPause = 5 * time.Millisecond
)

// timeWatch measures how long after the return of a create a watcher on
// another connection has the event, in milliseconds. An event that is there
// first counts as 0.
func timeWatch(ctx context.Context, kubeconfig string) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	writer, err := connect(kubeconfig)
	if err != nil {
		return nil, err
	}
	reader, err := connect(kubeconfig)
	if err != nil {
		return nil, err
	}
	list, err := reader.CoreV1().ConfigMaps(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	events, err := reader.CoreV1().ConfigMaps(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, err
	}
	defer events.Stop()
	seen := make(chan map[string]time.Time, 1)
	go func() { seen <- collect(events, watched) }()
	returned, err := createSlowly(ctx, writer)
	if err != nil {
		return nil, err
	}
	arrived := <-seen
	if len(arrived) < watched {
		return nil, errors.New("the watch has ended early")
	}
	latencies := make([]float64, 0, watched)
	for name, at := range returned {
		latencies = append(latencies, max(0, arrived[name].Sub(at).Seconds()*1e3))
	}
	return latencies, nil
}

// createSlowly creates what is watched, and tells when each create returned.
func createSlowly(ctx context.Context, client kubernetes.Interface) (map[string]time.Time, error) {
	returned := map[string]time.Time{}
	for i := range watched {
		name := fmt.Sprintf("watched-%d", i)
		if err := create(ctx, client, name); err != nil {
			return nil, err
		}
		returned[name] = time.Now()
		if err := rest(ctx, watchPause); err != nil {
			return nil, err
		}
	}
	return returned, nil
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
