// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
)

func config(client kubernetes.Interface, identity string) Config {
	return Config{Client: client, Name: "work", Identity: identity, Log: slog.New(slog.DiscardHandler)}
}

// TestOneLeadsAndHandsOver has two servers: never do both work at once, and a
// clean stop of the one lets the other work.
func TestOneLeadsAndHandsOver(t *testing.T) {
	client := fake.NewClientset()
	var working atomic.Int32
	leads := make(chan string, 10)
	server := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Run(ctx, config(client, name), func(ctx context.Context) error {
				if working.Add(1) > 1 {
					t.Error("two work at once")
				}
				leads <- name
				<-ctx.Done()
				working.Add(-1)
				return ctx.Err()
			})
		}()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	wait := func(name string) {
		t.Helper()
		select {
		case got := <-leads:
			if got != name {
				t.Fatalf("%s leads, expected %s", got, name)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not lead", name)
		}
	}
	stopA := server("a")
	wait("a")
	stopB := server("b")
	stopA()
	wait("b")
	stopB()
	lease, err := client.CoordinationV1().Leases("kube-system").Get(t.Context(), "work", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the Lease is still held by %s", *holder)
	}
}

func TestWorkThatFailsEndsRun(t *testing.T) {
	for name, result := range map[string]error{"by itself": nil, "broken": errors.New("broken")} {
		err := Run(t.Context(), config(fake.NewClientset(), "a"), func(context.Context) error { return result })
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, expected one with %q", err, name)
		}
	}
}
