// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/bench/report"
)

const (
	// clients create objects at the same time for loadTime.
	clients  = 16
	loadTime = 10 * time.Second
)

// load is how fast the API is.
type load struct {
	// Creates is objects a second.
	Creates float64
	// Sent and Answered are how long after a create was sent and was answered
	// a watcher has its event.
	Sent, Answered latency
}

// latency is in milliseconds; Tail is the 99th percentile.
type latency struct{ Median, Tail float64 }

func (l load) String() string {
	return fmt.Sprintf("%.0f creates/s, watch %.2f ms, tail %.2f ms", l.Creates, l.Sent.Median, l.Sent.Tail)
}

func timeLoad(ctx context.Context, kubeconfig string) (load, error) {
	events, err := timeWatch(ctx, kubeconfig)
	if err != nil {
		return load{}, fmt.Errorf("watch: %w", err)
	}
	creates, err := timeCreates(ctx, kubeconfig)
	if err != nil {
		return load{}, fmt.Errorf("create: %w", err)
	}
	return load{Creates: creates, Sent: condense(events.sent), Answered: condense(events.answered)}, nil
}

func condense(values []float64) latency {
	return latency{report.Percentile(values, 0.5), report.Percentile(values, 0.99)}
}

// connect returns a client with a connection of its own, as a program of its
// own would have.
func connect(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.ContentType = runtime.ContentTypeProtobuf
	// client-go shares connections between equal configurations.
	config.Dial = (&net.Dialer{}).DialContext
	return kubernetes.NewForConfig(config)
}

// timeCreates counts the ConfigMaps that many clients can create in a second.
func timeCreates(ctx context.Context, kubeconfig string) (float64, error) {
	var count atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for number := range clients {
		client, err := connect(kubeconfig)
		if err != nil {
			return 0, err
		}
		group.Go(func() error {
			for i := 0; time.Since(begin) < loadTime; i++ {
				if err := create(ctx, client, fmt.Sprintf("load-%d-%d", number, i)); err != nil {
					return err
				}
				count.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(count.Load()) / time.Since(begin).Seconds(), err
}

// configMapValue is about as long as a small configuration.
var configMapValue = strings.Repeat("a=b\n", 64)

func create(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Data:       map[string]string{"conf": configMapValue},
	}, metav1.CreateOptions{})
	return err
}
