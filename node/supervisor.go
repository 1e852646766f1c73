// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// stage orders the parts of a node: a part may use those of earlier stages
// until its own end, because stages are stopped last to first.
type stage int

const (
	stageRuntime stage = iota // etcd and containerd
	stageAPI                  // the API server
	stageRest                 // everything that is a client of the two
	stageCount
)

// stopTimeouts are how long the parts of a stage may take to stop. The API
// server would wait for watches of clients that do not hang up, for a minute;
// requests that change something are answered long before.
var stopTimeouts = [stageCount]time.Duration{
	stageRuntime: 3 * time.Second,
	stageAPI:     500 * time.Millisecond,
	stageRest:    3 * time.Second,
}

// stopAll is more than all stages take together.
const stopAll = 9 * time.Second

// part is a long-running piece of the node.
type part struct {
	name  string
	stage stage
	stop  context.CancelFunc
	done  chan struct{}
}

// supervisor runs the parts of a node in goroutines. The first part that ends
// before it was told to ends the node: nothing dies silently. It is safe for
// concurrent use.
type supervisor struct {
	log  *slog.Logger
	fail context.CancelCauseFunc

	mu    sync.Mutex
	parts []*part
}

// Start runs a part until its stage is stopped.
func (s *supervisor) Start(name string, st stage, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	p := &part{name: name, stage: st, stop: stop, done: make(chan struct{})}
	s.mu.Lock()
	s.parts = append(s.parts, p)
	s.mu.Unlock()
	go func() {
		defer close(p.done)
		err := guard(name, func() error { return run(ctx) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended without an error")
		}
		s.log.Error("part of the node failed", "part", name, "err", err)
		s.fail(fmt.Errorf("%s failed: %w", name, err))
	}()
}

// guard turns a panic into an error that holds the stack.
func guard(name string, run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", name, r, debug.Stack())
		}
	}()
	return run()
}

// Stop stops all parts, the last stage first.
func (s *supervisor) Stop() {
	s.mu.Lock()
	parts := append([]*part(nil), s.parts...)
	s.mu.Unlock()
	for st := stageCount - 1; st >= 0; st-- {
		deadline := time.After(stopTimeouts[st])
		for _, p := range parts {
			if p.stage == st {
				p.stop()
			}
		}
		for _, p := range parts {
			if p.stage != st {
				continue
			}
			select {
			case <-p.done:
			case <-deadline:
				s.log.Warn("part of the node did not stop in time", "part", p.name)
			}
		}
	}
}
