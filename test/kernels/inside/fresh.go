// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// makeTimeout is for building with a warm cache, in emulation.
const makeTimeout = 40 * time.Minute

// fresh does in a clone what the README says first.
func fresh(h *host) {
	c := &trial{host: h}
	if err := os.Chdir(os.Getenv("CLONE")); err != nil {
		h.step(step{"clone", func() error { return err }})
		return
	}
	ok := c.steps([]step{
		{"make up", func() error { return program(makeTimeout, "make", "up").failure() }},
		{"the node is Ready", nodeReady},
		{"make demo", func() error { return program(makeTimeout, "make", "demo").failure() }},
		{"make down", func() error { return program(makeTimeout, "make", "down").failure() }},
	})
	if !ok {
		c.dump()
	}
}

func nodeReady() error {
	return within(podTimeout, func() error {
		r := program(time.Minute, "bin/slipway", "kubectl", "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if r.err == nil && strings.TrimSpace(r.stdout) != "True" {
			return fmt.Errorf("the node's condition Ready is %q", r.stdout)
		}
		return r.failure()
	})
}
