// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/machine"
)

// testVolumes follows a volume from its claim to its end.
func testVolumes(t *testing.T, c *cluster) {
	const manifest = "testdata/volume.yaml"
	c.kubectl(t, "apply", "-f", manifest)
	t.Cleanup(func() { c.kubectl(t, "delete", "-f", manifest, "--ignore-not-found") })
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/writer", "--timeout=60s")
	if got := c.get(t, "pvc/data", "{.status.phase} {.spec.storageClassName}"); got != "Bound slipway" {
		t.Fatalf("the claim is %s, expected Bound slipway", got)
	}
	volume := c.get(t, "pvc/data", "{.spec.volumeName}")
	handle := c.get(t, "pv/"+volume, "{.spec.csi.volumeHandle}")
	wantSize(t, c, 64<<20)

	const text = "outlives its pod"
	c.mustExec(t, "writer", "write", "/data/file", text)
	c.kubectl(t, "delete", "pod", "writer")
	c.kubectl(t, "apply", "-f", manifest)
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/writer", "--timeout=60s")
	if got := c.mustExec(t, "writer", "read", "/data/file"); got != text {
		t.Errorf("the next pod reads %q, expected %q", got, text)
	}

	c.kubectl(t, "delete", "-f", manifest, "--timeout=60s")
	c.kubectl(t, "wait", "--for=delete", "pv/"+volume, "--timeout=60s")
	wantNoVolume(t, handle)
}

// wantSize fills the volume: it holds most of what was asked for, and no more.
func wantSize(t *testing.T, c *cluster, size int64) {
	t.Helper()
	var written, total int64
	if _, err := fmt.Sscan(c.mustExec(t, "writer", "fill", "/data"), &written, &total); err != nil {
		t.Fatal(err)
	}
	if total > size || written > size || written < size*3/4 {
		t.Errorf("a volume of %d bytes is a file system of %d that holds %d", size, total, written)
	}
}

// wantNoVolume finds nothing of a volume on the machine, by the first part of
// its handle.
func wantNoVolume(t *testing.T, handle string) {
	t.Helper()
	id, _, _ := strings.Cut(handle, "@")
	within(t, 20*time.Second, func() error {
		state := snapshot(t)
		for _, kind := range []machine.Kind{machine.Files, machine.Loops, machine.Mounts} {
			isOf := func(line string) bool {
				// The kubelet's pods are named differently, its volumes are not.
				return strings.Contains(line, id) && strings.HasPrefix(line, filepath.Join(dataDir, "volumes")) || kind != machine.Files && strings.Contains(line, id)
			}
			if i := slices.IndexFunc(state[kind], isOf); i >= 0 {
				return fmt.Errorf("left of the volume: %s %s", kind, state[kind][i])
			}
		}
		return nil
	})
}
