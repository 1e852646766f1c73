// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/roottest"
)

// A snapshot for which there is no room leaves what was there before, and
// nothing of itself.
func TestRootSaveOnFullDisk(t *testing.T) {
	roottest.Require(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t)
	s.writeKey(t, "key")
	good := filepath.Join(dir, "good.tar.gz")
	s.run(t, func(c *clientv3.Client) {
		put(t, c, "/key", "x")
		save(t, s, good)
		for i := range 8 {
			put(t, c, fmt.Sprint("/large/", i), rand.Text()+string(make([]byte, 500_000)))
		}
		for _, name := range []string{"bad.tar.gz", "good.tar.gz"} {
			if _, err := Save(t.Context(), s.source(), filepath.Join(dir, name)); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("%s: error %v, expected %v", name, err, unix.ENOSPC)
			}
		}
	})
	wantOnly(t, dir, "good.tar.gz")
	if err := unpack(good, t.TempDir()); err != nil {
		t.Error(err)
	}
}
