// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

func newSupervisor() (*supervisor, context.Context) {
	ctx, fail := context.WithCancelCause(context.Background())
	return &supervisor{log: slog.New(slog.DiscardHandler), fail: fail}, ctx
}

func TestPartThatEndsFailsTheNode(t *testing.T) {
	for name, tt := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"error":    {func(context.Context) error { return errors.New("disk gone") }, "etcd failed: disk gone"},
		"no error": {func(context.Context) error { return nil }, "it ended without an error"},
		"panic":    {func(context.Context) error { panic("boom") }, "etcd panicked: boom"},
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := newSupervisor()
			s.Start("etcd", stageRuntime, tt.run)
			<-ctx.Done()
			if cause := context.Cause(ctx); !strings.Contains(cause.Error(), tt.want) {
				t.Errorf("cause is %v, expected %q in it", cause, tt.want)
			}
		})
	}
}

func TestStopOrder(t *testing.T) {
	s, ctx := newSupervisor()
	var mu sync.Mutex
	var order []string
	part := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return nil
		}
	}
	s.Start("etcd", stageRuntime, part("etcd"))
	s.Start("api", stageAPI, part("api"))
	s.Start("proxy", stageRest, part("proxy"))
	s.Stop()
	if want := []string{"proxy", "api", "etcd"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, expected %v", order, want)
	}
	if ctx.Err() != nil {
		t.Errorf("a stop counts as a failure: %v", context.Cause(ctx))
	}
}
