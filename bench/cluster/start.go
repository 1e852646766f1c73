// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/bench/sandbox"
)

const (
	// startTimeout is how long a start may take.
	startTimeout = 2 * time.Minute
	// pollPeriod is how often what cannot be watched is tried.
	pollPeriod = 5 * time.Millisecond
)

// starts are times since the start of a cluster, in seconds.
type starts struct {
	// API is when /readyz says ok, Node when the node is Ready, Pod when a
	// pod runs that is created as soon as the API takes it.
	API, Node, Pod float64
}

func (s starts) String() string {
	return fmt.Sprintf("API %.2f s, node %.2f s, pod %.2f s", s.API, s.Node, s.Pod)
}

// timeStart starts a cluster and watches it come up.
func timeStart(ctx context.Context, cluster side, pod string) (starts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not up within %v", startTimeout))
	defer cancel()
	begin := time.Now()
	if err := cluster.start(); err != nil {
		return starts{}, err
	}
	var s starts
	client, err := waitAPI(ctx, cluster.kubeconfig())
	if err != nil {
		return s, fmt.Errorf("API: %w", err)
	}
	s.API = time.Since(begin).Seconds()
	type event struct {
		at  time.Time
		err error
	}
	running := make(chan event, 1)
	go func() {
		at, err := runPod(ctx, client, pod)
		running <- event{at, err}
	}()
	ready, err := waitNode(ctx, client, begin)
	if err != nil {
		return s, fmt.Errorf("node Ready: %w", err)
	}
	s.Node = ready.Sub(begin).Seconds()
	e := <-running
	if e.err != nil {
		return s, fmt.Errorf("pod Running: %w", e.err)
	}
	s.Pod = e.at.Sub(begin).Seconds()
	return s, nil
}

// waitAPI waits for /readyz and returns a client of the administrator.
func waitAPI(ctx context.Context, kubeconfig string) (kubernetes.Interface, error) {
	var client kubernetes.Interface
	return client, poll(ctx, func() error {
		if client == nil {
			// The kubeconfig may be made by the start.
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			config.QPS = -1
			config.Timeout = startTimeout
			made, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			client = made
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// waitNode waits until the kubelet reports, after begin, that the node is
// Ready.
func waitNode(ctx context.Context, client kubernetes.Interface, begin time.Time) (time.Time, error) {
	one := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", sandbox.Hostname).String()}
	return await(ctx, func() (watch.Interface, error) { return client.CoreV1().Nodes().Watch(ctx, one) },
		func(object runtime.Object) bool {
			node, ok := object.(*corev1.Node)
			return ok && readySince(node, begin)
		})
}

// readySince tells whether a report is of the kubelet that was started at
// begin. The API has whole seconds, and the kubelet before has been stopped for
// longer than one.
func readySince(node *corev1.Node, begin time.Time) bool {
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue && !cond.LastHeartbeatTime.Time.Before(begin.Truncate(time.Second))
		}
	}
	return false
}

// runPod creates a pod, as soon as its service account is there, and waits
// until it runs.
func runPod(ctx context.Context, client kubernetes.Interface, name string) (time.Time, error) {
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "pause", Image: podImage, ImagePullPolicy: corev1.PullNever}},
		},
	}
	if err := poll(ctx, func() error {
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		return err
	}); err != nil {
		return time.Time{}, err
	}
	one := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	return await(ctx, func() (watch.Interface, error) { return pods.Watch(ctx, one) },
		func(object runtime.Object) bool {
			pod, ok := object.(*corev1.Pod)
			return ok && pod.Status.Phase == corev1.PodRunning
		})
}

// await watches until an object satisfies done.
func await(ctx context.Context, open func() (watch.Interface, error), done func(runtime.Object) bool) (time.Time, error) {
	for {
		var events watch.Interface
		if err := poll(ctx, func() (err error) {
			events, err = open()
			return err
		}); err != nil {
			return time.Time{}, err
		}
		for event := range events.ResultChan() {
			if done(event.Object) {
				at := time.Now()
				events.Stop()
				return at, nil
			}
		}
		events.Stop()
	}
}

// poll tries until there is no error.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for {
		last := try()
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
