// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"os"
	"path/filepath"

	"slipway.dev/slipway/addresspool"
	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni"
	"slipway.dev/slipway/cni/peers"
	"slipway.dev/slipway/csi"
	"slipway.dev/slipway/node/host"
)

// removeVolumes unmounts all volumes and detaches their devices; the data goes
// with the data directory.
func removeVolumes(cfg Config, opts DownOptions) error {
	// What pods had mounted below the kubelet's directory besides volumes.
	if err := host.UnmountBelow(cfg.kubeletDir()); err != nil {
		return err
	}
	return csi.Clean(cfg.data("volumes"), cfg.kubeletDir(), opts.Purge)
}

// removeNetwork removes the pod network and every BPF object.
func removeNetwork(cfg Config, opts DownOptions) error {
	return errors.Join(
		cni.Clean(cni.CleanConfig{
			Socket: cfg.cniSocket(), StateDir: cfg.data("cni"), ConfDir: cfg.run("cni", "net.d"), Purge: opts.Purge,
		}),
		peers.Clean(),
		addresspool.Clean(),
		bpf.Remove(cfg.PinDir()),
		removeResults(),
	)
}

// removeResults removes what the runtime remembers of our attachments. On a
// machine with other networks its directory stays.
func removeResults() error {
	names, err := filepath.Glob(filepath.Join(cniResults, cni.NetworkName+"-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
