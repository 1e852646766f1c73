// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy/takeover"
)

// openDatapath loads or adopts the BPF programs and attaches those that do
// not wait for a pod or an uplink.
func openDatapath(cfg Config, watch *takeover.Watch) (*bpf.Datapath, error) {
	d, err := bpf.Open(bpf.Config{PinDir: cfg.Pins, Log: cfg.Log.With("component", "bpf")})
	if err != nil {
		return nil, fmt.Errorf("open data path: %w", err)
	}
	if err := errors.Join(watch.Inform(d), d.AttachSock(cfg.Cgroup)); err != nil {
		d.Close()
		return nil, fmt.Errorf("open data path: %w", err)
	}
	return d, nil
}
