// SPDX-License-Identifier: Apache-2.0

// Package leader runs work on one server of a cluster at a time: the one that
// holds a Lease. A server that loses the Lease stops the work and stands by
// again; upstream's components would end the process. A clean stop gives the
// Lease back, so that another server takes over within seconds.
package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A server that dies is replaced after at most duration and two retries. One
// that cannot renew its Lease stops working three seconds before that.
const (
	duration = 10 * time.Second
	deadline = 7 * time.Second
	retry    = 2 * time.Second
)

// Config says which Lease is meant.
type Config struct {
	Client kubernetes.Interface
	// Name is that of the Lease in the namespace kube-system.
	Name string
	// Identity is this server.
	Identity string
	Log      *slog.Logger
}

// Run calls work whenever this server leads, with a context that ends when it
// does not lead any more. Work must return then. Run returns when ctx ends or
// work fails.
func Run(ctx context.Context, cfg Config, work func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := term(ctx, cfg, work); err != nil {
			return err
		}
	}
	return nil
}

// term stands by until this server leads, and lets it lead for as long as it
// can.
func term(ctx context.Context, cfg Config, work func(context.Context) error) error {
	// The Lease is given back only after the work has stopped.
	hold, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	started, done := make(chan struct{}), make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: cfg.Name, LeaseDuration: duration, RenewDeadline: deadline, RetryPeriod: retry, ReleaseOnCancel: true,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: cfg.Name, Namespace: metav1.NamespaceSystem},
			Client:     cfg.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: cfg.Identity},
		},
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				close(started)
				cfg.Log.Info("leading", "lease", cfg.Name)
				err := lead(ctx, leading, work)
				release()
				done <- err
			},
			OnStoppedLeading: func() { cfg.Log.Info("not leading", "lease", cfg.Name) },
		},
	})
	if err != nil {
		return fmt.Errorf("elect %s: %w", cfg.Name, err)
	}
	// Who only stands by need not wait for anything.
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-started:
		default:
			release()
		}
	})
	defer stop()
	elector.Run(hold)
	select {
	case <-started:
		return <-done
	default:
		return nil
	}
}

// lead runs work until either context ends. An end of the work by itself is
// an error.
func lead(ctx, leading context.Context, work func(context.Context) error) error {
	both, cancel := context.WithCancel(leading)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	err := work(both)
	if both.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return err
}
