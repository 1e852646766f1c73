// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"

	"slipway.dev/slipway/csi"
)

// TestRootSanity runs csi-sanity against the driver's socket.
func TestRootSanity(t *testing.T) {
	h := newHost(t)
	config := sanity.NewTestConfig()
	config.Address = "unix://" + filepath.Join(h.kubelet, "plugins", csi.DriverName, "csi.sock")
	config.TargetPath = filepath.Join(h.kubelet, "target")
	config.StagingPath = filepath.Join(h.kubelet, "staging")
	config.TestVolumeSize = 64 * mib
	config.IdempotentCount = 3
	sanity.Test(t, config)
}
