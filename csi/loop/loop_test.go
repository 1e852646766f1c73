// SPDX-License-Identifier: Apache-2.0

package loop_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/internal/roottest"
)

func testImage(t *testing.T) string {
	t.Helper()
	roottest.Require(t)
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 16<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func attach(t *testing.T, image string) *loop.Device {
	t.Helper()
	d, err := loop.Attach(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func attribute(t *testing.T, d *loop.Device, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Path()), name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestRootAttachOnce(t *testing.T) {
	image := testImage(t)
	first, second := attach(t, image), attach(t, image)
	if !first.Fresh || second.Fresh || first.Number != second.Number {
		t.Errorf("attached as %+v and %+v, want one device, fresh the first time", first, second)
	}
	if found, err := loop.Find(image); err != nil || len(found) != 1 || found[0].Image != image {
		t.Errorf("found %+v, %v", found, err)
	}
	first.Close()
	if found, err := loop.Find(image); err != nil || len(found) != 1 {
		t.Errorf("with one user left: %+v, %v", found, err)
	}
	second.Close()
	if found, err := loop.Find(image); err != nil || len(found) != 0 {
		t.Errorf("without users: %+v, %v", found, err)
	}
}

func TestRootDeviceSettings(t *testing.T) {
	d := attach(t, testImage(t))
	for name, want := range map[string]string{
		"loop/autoclear":           "1",
		"queue/logical_block_size": "4096",
		"queue/discard_max_bytes":  "0",
	} {
		if got := attribute(t, d, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	// Direct I/O depends on the file system below, so it is only shown.
	t.Logf("direct I/O: %s", attribute(t, d, "loop/dio"))
}

func TestRootDetach(t *testing.T) {
	image := testImage(t)
	d := attach(t, image)
	if err := loop.Detach(d.Number); err != nil {
		t.Error(err)
	}
	d.Close()
	if found, err := loop.Find(image); err != nil || len(found) != 0 {
		t.Errorf("after detach: %+v, %v", found, err)
	}
	if err := loop.Detach(d.Number); err != nil {
		t.Errorf("second detach: %v", err)
	}
}

func TestAttachMissing(t *testing.T) {
	if _, err := loop.Attach(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}
