// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"

	"slipway.dev/slipway/bench/sandbox"
)

// slipway is our side: `slipway up` as a user starts it.
type slipway struct{ up *program }

var slipwayBinary = filepath.Join(sandbox.Programs, "bin", "slipway")

func (s *slipway) prepare(context.Context) error {
	s.up = &program{name: "slipway", argv: []string{slipwayBinary, "up", "--kubeconfig=" + s.kubeconfig()}}
	return warm(slipwayBinary)
}

func (s *slipway) start() error { return s.up.start() }

func (s *slipway) stop() error {
	s.up.terminate()
	return s.up.wait()
}

func (s *slipway) kubeconfig() string { return "/var/lib/slipway/admin.kubeconfig" }
