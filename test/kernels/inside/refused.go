// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// refused wants a machine that cannot run Slipway to be told so, by check and
// by up in the same words, and nothing to be left behind.
func refused(h *host) {
	c := &trial{host: h}
	c.step(step{"machine before", c.snapshot})
	missing, err := h.check()
	c.step(step{"check refuses", func() error {
		if err == nil && len(missing) == 0 {
			return errors.New("it finds nothing missing")
		}
		return err
	}})
	c.step(step{"up refuses", func() error {
		r := program(2*time.Minute, "slipway", "up", "--detach")
		if r.err == nil {
			return errors.New("it starts")
		}
		said := func(f finding) bool { return strings.Contains(r.stdout+r.stderr, f.Says) }
		if !slices.ContainsFunc(missing, said) {
			return fmt.Errorf("it does not say what check says: %w", r.failure())
		}
		return nil
	}})
	c.step(step{"machine after is as before", c.compare})
}
