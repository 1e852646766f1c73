// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/internal/version"
)

// The two sides, as -part names them.
const (
	partOurs = "slipway"
	partPeer = "upstream"
)

// podImage is on both sides before a pod wants it: it is that of the pod
// sandbox.
const podImage = "slipway.dev/pause:" + version.Kubernetes

// logDir is where all programs log.
const logDir = "/var/log/bench"

// side is a cluster that can be measured.
type side interface {
	// prepare does what comes before the first start.
	prepare(ctx context.Context) error
	// start starts all programs and does not wait for them.
	start() error
	// stop stops what start has started, besides the container runtime.
	stop() error
	// kubeconfig is the administrator's.
	kubeconfig() string
}

// apart is the time between a stop and the next start, so that what the API
// dates in whole seconds can be told apart.
const apart = 2 * time.Second

// settle is how long a cluster is left alone before it counts as idle.
const settle = 30 * time.Second

// result is what is measured of one side in one round.
type result struct {
	First, Restart starts
	Idle           footprint
	Load           load
}

func (r result) String() string {
	return fmt.Sprintf("first %v, idle %v, restart %v, %v", r.First, r.Idle, r.Restart, r.Load)
}

// measure goes through all that is measured of a side.
func measure(ctx context.Context, part string, idle time.Duration) (result, error) {
	var r result
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return r, err
	}
	var cluster side = &slipway{}
	if part == partPeer {
		cluster = &upstream{}
	}
	err := cluster.prepare(ctx)
	if err != nil {
		return r, fmt.Errorf("prepare: %w", err)
	}
	if r.First, err = timeStart(ctx, cluster, "first"); err != nil {
		return r, fmt.Errorf("first start: %w", err)
	}
	if r.Idle, err = watchIdle(ctx, idle); err != nil {
		return r, err
	}
	if err := cluster.stop(); err != nil {
		return r, fmt.Errorf("stop: %w", err)
	}
	if err := sandbox.Rest(ctx, apart); err != nil {
		return r, err
	}
	if r.Restart, err = timeStart(ctx, cluster, "second"); err != nil {
		return r, fmt.Errorf("restart: %w", err)
	}
	if r.Load, err = timeLoad(ctx, cluster.kubeconfig()); err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	return r, cluster.stop()
}
