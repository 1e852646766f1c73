// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/internal/roottest"
)

// TestStatusFollowsTheClass runs the whole controller on a fake API.
func TestStatusFollowsTheClass(t *testing.T) {
	ing := ingressOf("web", 0, rule{"h", "/", underPath, "web"})
	client := fake.NewClientset(ing, Class(true))
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{
		NodeName: "n1", Client: client, Informers: factory, HTTPAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	factory.Start(ctx.Done())
	status := func(want int) {
		t.Helper()
		roottest.Eventually(t, 10*time.Second, func() error {
			now, err := client.NetworkingV1().Ingresses("a").Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := len(now.Status.LoadBalancer.Ingress); got != want {
				return fmt.Errorf("%d addresses, expected %d", got, want)
			}
			return nil
		})
	}
	status(1)
	change := func(class string) {
		t.Helper()
		now, err := client.NetworkingV1().Ingresses("a").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Spec.IngressClassName = &class
		if _, err := client.NetworkingV1().Ingresses("a").Update(ctx, now, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	change("other")
	status(0)
	change(ClassName)
	status(1)
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c.Ready() == nil {
		t.Error("ready after the end")
	}
}
