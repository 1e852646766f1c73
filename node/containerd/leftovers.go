// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/node/host"
)

// KillLeftovers kills the daemon and the shims that were started for this
// configuration, also when their records are lost.
func KillLeftovers(cfg Config, timeout time.Duration) error {
	ours, err := leftovers(cfg)
	if err != nil {
		return err
	}
	for _, id := range ours {
		if err := process.Kill(id, timeout); err != nil {
			return fmt.Errorf("kill leftovers of containerd: %w", err)
		}
	}
	if err := host.RemoveDeadSockets(shimSockets); err != nil {
		return err
	}
	// They stay when they are not empty.
	_ = os.Remove(shimSockets)
	_ = os.Remove(filepath.Dir(shimSockets))
	return nil
}

// shimSockets is where upstream's shims listen, whatever the state directory
// of their daemon is.
const shimSockets = "/run/containerd/s"

// StateLost tells whether the record of the daemon is missing: after a reboot,
// after a clean stop, or because somebody has emptied the state directory.
func StateLost(cfg Config) bool {
	_, err := readRecord(cfg.recordFile())
	return err != nil
}

// leftovers finds our processes by their command lines: a shim names the
// socket of its daemon, a daemon its configuration file.
func leftovers(cfg Config) ([]process.Identity, error) {
	shim := filepath.Join(cfg.BinDir, "containerd-shim-runc-v2")
	return process.Find(func(argv []string) bool {
		if len(argv) == 0 {
			return false
		}
		if argv[0] == shim {
			return follows(argv, "-address", cfg.Socket())
		}
		return len(argv) > 1 && argv[1] == "containerd" && follows(argv, "--config", cfg.configFile())
	})
}

// follows tells whether the argument after name is value.
func follows(argv []string, name, value string) bool {
	for i := range len(argv) - 1 {
		if argv[i] == name && argv[i+1] == value {
			return true
		}
	}
	return false
}
