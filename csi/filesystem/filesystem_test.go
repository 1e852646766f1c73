// SPDX-License-Identifier: Apache-2.0

package filesystem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func image(t *testing.T, bytes int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMakeAndCheck(t *testing.T) {
	for _, fsType := range Installed() {
		name := image(t, MinBytes(fsType))
		if err := Make(t.Context(), name, fsType); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
		if err := Check(t.Context(), name, fsType); err != nil {
			t.Errorf("%s: %v", fsType, err)
		}
	}
}

func TestMakeFails(t *testing.T) {
	if err := Make(t.Context(), image(t, MinBytes(Ext4)), "fat"); !errors.Is(err, ErrTool) {
		t.Errorf("unknown file system: %v", err)
	}
	if !slices.Contains(Installed(), Ext4) {
		t.Skip("no mkfs.ext4 on this machine")
	}
	var exit *ExitError
	if err := Make(t.Context(), image(t, 4096), Ext4); !errors.As(err, &exit) || exit.Code == 0 || exit.Output == "" {
		t.Errorf("too small: %v, want an exit code with output", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Make(ctx, image(t, MinBytes(Ext4)), Ext4); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCheckDamaged(t *testing.T) {
	if !slices.Contains(Installed(), Ext4) {
		t.Skip("no mkfs.ext4 on this machine")
	}
	name := image(t, MinBytes(Ext4))
	if err := Make(t.Context(), name, Ext4); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(i*7 + 1)
	}
	// Behind the superblock: group descriptors, bitmaps, inodes.
	if _, err := f.WriteAt(garbage, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), name, Ext4); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
}
