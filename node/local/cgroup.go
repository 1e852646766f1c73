// SPDX-License-Identifier: Apache-2.0

package local

import (
	"path"
	"time"

	"slipway.dev/slipway/node/host"
)

// cgroupParent holds a cgroup for each node, in every hierarchy.
const cgroupParent = "slipway-nodes"

// killTimeout is how long the processes of a node may take to disappear.
const killTimeout = 20 * time.Second

func cgroupOf(name string) string { return path.Join(cgroupParent, name) }

func makeCgroup(name string) error {
	if err := host.MakeCgroup(cgroupParent); err != nil {
		return err
	}
	return host.MakeCgroup(cgroupOf(name))
}

// removeCgroup removes the cgroup of a node, or of all when name is empty, and
// kills what is left in it.
func removeCgroup(name string) error { return host.RemoveCgroup(cgroupOf(name), killTimeout) }
