// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/filesystem"
)

const mib = 1 << 20

// errInjected is what a fakeDisk fails with.
var errInjected = errors.New("injected")

// fakeDisk works on real directories but makes no file system and no device.
// Its call number failAt, counted from 1, goes wrong.
type fakeDisk struct {
	failAt  int
	fail    func()
	err     error
	calls   int
	devices []uint64
}

func (d *fakeDisk) step() error {
	d.calls++
	if d.calls != d.failAt {
		return nil
	}
	if d.fail != nil {
		d.fail()
	}
	return d.err
}

func (d *fakeDisk) Allocate(path string, bytes int64) error {
	// What was reserved before the failure is there.
	if err := (hostDisk{}).Allocate(path, bytes); err != nil {
		return err
	}
	return d.step()
}

func (d *fakeDisk) Refill(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return hostDisk{}.Refill(path)
}

func (d *fakeDisk) Format(context.Context, string, string) error { return d.step() }

func (d *fakeDisk) Move(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	return hostDisk{}.Move(from, to)
}

func (d *fakeDisk) Devices(path string) ([]uint64, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return d.devices, nil
}

func testPool(t *testing.T, d disk) *Pool {
	t.Helper()
	p, err := newPool(Config{Root: filepath.Join(t.TempDir(), "root"), ReserveBytes: -1}, d)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Capabilities().FSTypes) == 0 {
		t.Skip("no mkfs on this machine")
	}
	return p
}

func spec(name string) backend.Spec {
	return backend.Spec{ID: backend.IDFor(name), Name: name, Bytes: 17*mib + 1, FSType: filesystem.Ext4}
}

// files lists all regular files of a pool.
func files(t *testing.T, p *Pool) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(p.config.Root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			path, err = filepath.Rel(p.config.Root, path)
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCreate(t *testing.T) {
	p := testPool(t, &fakeDisk{})
	v, err := p.Create(t.Context(), spec("pvc-1"))
	if err != nil {
		t.Fatal(err)
	}
	want := backend.Volume{ID: "pvc-1", Name: "pvc-1", Bytes: 18 * mib, FSType: "ext4", Created: v.Created}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"volumes/pvc-1/image", "volumes/pvc-1/volume.json"}, files(t, p)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	again, err := p.Create(t.Context(), spec("pvc-1"))
	if err != nil || again != v {
		t.Errorf("second create gives %v, %v", again, err)
	}
	listed, err := p.List()
	if err != nil || len(listed) != 1 || listed[0] != v {
		t.Errorf("list gives %v, %v", listed, err)
	}
	capacity, err := p.Capacity()
	if err != nil || capacity.Allocated != v.Bytes || capacity.Volumes != 1 {
		t.Errorf("capacity is %+v, %v", capacity, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	p := testPool(t, &fakeDisk{})
	if _, err := p.Create(t.Context(), spec("pvc-1")); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*backend.Spec)
		want   error
	}{
		"larger than the one there": {func(s *backend.Spec) { s.ID, s.Name, s.Bytes = "pvc-1", "pvc-1", 64*mib }, backend.ErrExists},
		"other file system":         {func(s *backend.Spec) { s.ID, s.Name, s.FSType = "pvc-1", "pvc-1", filesystem.XFS }, backend.ErrExists},
		"other name with this id":   {func(s *backend.Spec) { s.ID = "pvc-1" }, backend.ErrExists},
		"limit below":               {func(s *backend.Spec) { s.LimitBytes = 17*mib + 2 }, backend.ErrSize},
		"more than there is":        {func(s *backend.Spec) { s.Bytes = 1 << 60 }, backend.ErrNoSpace},
		"most that can be asked":    {func(s *backend.Spec) { s.Bytes = 1<<63 - 1 }, backend.ErrNoSpace},
		"unknown file system":       {func(s *backend.Spec) { s.FSType = "fat" }, backend.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec("pvc-2")
			test.change(&s)
			if _, err := p.Create(t.Context(), s); !errors.Is(err, test.want) {
				t.Errorf("error is %v, want %v", err, test.want)
			}
			if n := len(files(t, p)); n != 2 {
				t.Errorf("%d files, want the 2 of the first volume", n)
			}
		})
	}
}

// TestCreateFails makes each step fail in turn; nothing may stay.
func TestCreateFails(t *testing.T) {
	for _, injected := range []struct{ err, want error }{{errInjected, errInjected}, {unix.ENOSPC, backend.ErrNoSpace}} {
		d := &fakeDisk{failAt: 1, err: injected.err}
		p := testPool(t, d)
		_, err := p.Create(t.Context(), spec("pvc-1"))
		if !errors.Is(err, injected.want) {
			t.Errorf("error is %v, want %v", err, injected.want)
		}
		if left := files(t, p); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	for step := 1; step <= 4; step++ {
		d := &fakeDisk{failAt: step, err: errInjected}
		p := testPool(t, d)
		if _, err := p.Create(t.Context(), spec("pvc-1")); !errors.Is(err, errInjected) {
			t.Errorf("step %d: error is %v", step, err)
		}
		if left := files(t, p); len(left) > 0 {
			t.Errorf("step %d: left: %v", step, left)
		}
		if _, err := p.Create(t.Context(), spec("pvc-1")); err != nil {
			t.Errorf("step %d: second create: %v", step, err)
		}
	}
}

// TestCreateDies ends the process, as far as the pool can tell, at each
// step; a new pool on the same root must not see the volume, and can make it.
func TestCreateDies(t *testing.T) {
	for step := 1; step <= 4; step++ {
		d := &fakeDisk{failAt: step, fail: func() { panic(errInjected) }}
		p := testPool(t, d)
		dies(t, func() { _, _ = p.Create(t.Context(), spec("pvc-1")) })
		if len(files(t, p)) == 0 {
			t.Errorf("step %d: death left nothing, so this test proves nothing", step)
		}
		p = reopen(t, p)
		if left := files(t, p); len(left) > 0 {
			t.Errorf("step %d: left: %v", step, left)
		}
		if _, err := p.Create(t.Context(), spec("pvc-1")); err != nil {
			t.Errorf("step %d: second create: %v", step, err)
		}
	}
}

func TestDelete(t *testing.T) {
	d := &fakeDisk{}
	p := testPool(t, d)
	if _, err := p.Create(t.Context(), spec("pvc-1")); err != nil {
		t.Fatal(err)
	}
	d.devices = []uint64{7 << 8}
	if err := p.Delete(t.Context(), "pvc-1"); !errors.Is(err, backend.ErrInUse) {
		t.Errorf("delete of an attached volume: %v", err)
	}
	d.devices = nil
	d.failAt, d.err = d.calls+1, errInjected
	if err := p.Delete(t.Context(), "pvc-1"); !errors.Is(err, errInjected) {
		t.Errorf("delete with a failing disk: %v", err)
	}
	if _, err := p.Get("pvc-1"); err != nil {
		t.Errorf("volume after a failed delete: %v", err)
	}
	for range 2 {
		if err := p.Delete(t.Context(), "pvc-1"); err != nil {
			t.Error(err)
		}
	}
	if left := files(t, p); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestDeleteDies dies after the rename and before the removal.
func TestDeleteDies(t *testing.T) {
	p := testPool(t, &fakeDisk{})
	if _, err := p.Create(t.Context(), spec("pvc-1")); err != nil {
		t.Fatal(err)
	}
	if err := (hostDisk{}).Move(p.dir(volumesDir, "pvc-1"), p.dir(deletingDir, "pvc-1")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Get("pvc-1"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("get: %v, want %v", err, backend.ErrNotFound)
	}
	if left := files(t, reopen(t, p)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestDamaged leaves the other volumes usable.
func TestDamaged(t *testing.T) {
	p := testPool(t, &fakeDisk{})
	for _, name := range []string{"pvc-1", "pvc-2"} {
		if _, err := p.Create(t.Context(), spec(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir(volumesDir, "pvc-1"), metadataName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if volumes, err := p.List(); err != nil || len(volumes) != 1 || volumes[0].ID != "pvc-2" {
		t.Errorf("list gives %v, %v; want pvc-2", volumes, err)
	}
	if err := p.Maintain(t.Context()); !errors.Is(err, ErrMetadata) {
		t.Errorf("maintain gives %v, want %v", err, ErrMetadata)
	}
	if _, err := p.Create(t.Context(), spec("pvc-1")); !errors.Is(err, ErrMetadata) {
		t.Errorf("create over it gives %v, want %v", err, ErrMetadata)
	}
	if err := p.Delete(t.Context(), "pvc-1"); err != nil {
		t.Error(err)
	}
}

func TestReserve(t *testing.T) {
	for name, test := range map[string]struct{ config, total, want int64 }{
		"default of a small disk": {0, 20 << 30, 1 << 30},
		"default of a tiny disk":  {0, 200 * mib, 10 * mib},
		"default of a large disk": {0, 1 << 50, 1 << 30},
		"given":                   {5 * mib, 1 << 40, 5 * mib},
		"none":                    {-1, 1 << 40, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Pool{config: Config{ReserveBytes: test.config}}
			if got := p.reserve(test.total); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// dies runs fn, which must panic with errInjected.
func dies(t *testing.T, fn func()) {
	t.Helper()
	defer func() {
		if got := recover(); got != errInjected {
			t.Errorf("ended with %v", got)
		}
	}()
	fn()
}

// reopen is what the next process does.
func reopen(t *testing.T, p *Pool) *Pool {
	t.Helper()
	p, err := newPool(p.config, &fakeDisk{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}
