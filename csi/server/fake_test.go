// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/mount"
)

var errInjected = errors.New("injected")

// fakeBackend keeps volumes in memory. An operation named in fail fails.
type fakeBackend struct {
	volumes  map[backend.ID]backend.Volume
	attached map[backend.ID]bool
	fail     map[string]error
	closed   int
}

func (b *fakeBackend) Create(_ context.Context, s backend.Spec) (backend.Volume, error) {
	if err := b.fail["create"]; err != nil {
		return backend.Volume{}, err
	}
	if v, ok := b.volumes[s.ID]; ok && !v.Satisfies(s) {
		return backend.Volume{}, backend.ErrExists
	}
	v := backend.Volume{ID: s.ID, Name: s.Name, Bytes: s.Bytes, FSType: s.FSType}
	b.volumes[s.ID] = v
	return v, nil
}

func (b *fakeBackend) Delete(_ context.Context, id backend.ID) error {
	delete(b.volumes, id)
	return b.fail["delete"]
}

func (b *fakeBackend) Get(id backend.ID) (backend.Volume, error) {
	if v, ok := b.volumes[id]; ok {
		return v, nil
	}
	return backend.Volume{}, backend.ErrNotFound
}

func (b *fakeBackend) List() ([]backend.Volume, error) {
	var all []backend.Volume
	for _, v := range b.volumes {
		all = append(all, v)
	}
	slices.SortFunc(all, func(x, y backend.Volume) int { return cmp.Compare(x.ID, y.ID) })
	return all, b.fail["list"]
}

func (b *fakeBackend) Capacity() (backend.Capacity, error) {
	return backend.Capacity{Total: 100, Available: 60}, b.fail["capacity"]
}

func (b *fakeBackend) Capabilities() backend.Capabilities {
	return backend.Capabilities{FSTypes: []string{"ext4"}}
}

func (b *fakeBackend) Attach(_ context.Context, id backend.ID) (backend.Device, error) {
	if err := b.fail["attach"]; err != nil {
		return backend.Device{}, err
	}
	fresh := !b.attached[id]
	b.attached[id] = true
	return backend.Device{Closer: closer{b}, Path: "/dev/" + string(id), Number: number(id), Fresh: fresh}, nil
}

func (b *fakeBackend) Attached(id backend.ID) ([]uint64, error) {
	if b.attached[id] {
		return []uint64{number(id)}, b.fail["attached"]
	}
	return nil, b.fail["attached"]
}

func (b *fakeBackend) Recover(context.Context) error  { return nil }
func (b *fakeBackend) Maintain(context.Context) error { return nil }

type closer struct{ backend *fakeBackend }

func (c closer) Close() error {
	c.backend.closed++
	return nil
}

// number gives each id a device number.
func number(id backend.ID) uint64 {
	n := uint64(1)
	for i := range len(id) {
		n = n*31 + uint64(id[i])
	}
	return n
}

// fakeMounts is a mount table in memory. An operation named in fail fails.
type fakeMounts struct {
	entries []mount.Entry
	devices map[string]uint64
	fail    map[string]error
}

func (m *fakeMounts) Mount(device, target, fsType string, _ []string) error {
	if err := m.fail["mount"]; err != nil {
		return err
	}
	m.entries = append(m.entries, mount.Entry{Path: target, Device: m.devices[device], Root: "/", FSType: fsType})
	return nil
}

func (m *fakeMounts) Bind(source, target string) error {
	if err := m.fail["bind"]; err != nil {
		return err
	}
	below, _ := m.At(source)
	if len(below) == 0 {
		return errors.New("nothing to bind")
	}
	e := below[len(below)-1]
	e.Path = target
	m.entries = append(m.entries, e)
	return nil
}

func (m *fakeMounts) MakeReadOnly(target string) error {
	if err := m.fail["read-only"]; err != nil {
		return err
	}
	for i := range m.entries {
		if m.entries[i].Path == target {
			m.entries[i].ReadOnly = true
		}
	}
	return nil
}

func (m *fakeMounts) Unmount(target string) error {
	if err := m.fail["unmount"]; err != nil {
		return err
	}
	for i, e := range slices.Backward(m.entries) {
		if e.Path == target {
			m.entries = slices.Delete(m.entries, i, i+1)
			return nil
		}
	}
	return nil
}

func (m *fakeMounts) At(path string) ([]mount.Entry, error) {
	var found []mount.Entry
	for _, e := range m.entries {
		if e.Path == path {
			found = append(found, e)
		}
	}
	return found, m.fail["at"]
}

func (m *fakeMounts) Of(devices ...uint64) ([]mount.Entry, error) {
	var found []mount.Entry
	for _, e := range m.entries {
		if slices.Contains(devices, e.Device) {
			found = append(found, e)
		}
	}
	return found, m.fail["of"]
}

// fixture is a server on fakes, with the volume pvc-1.
type fixture struct {
	*Server
	backend *fakeBackend
	mounts  *fakeMounts
	checked []string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		backend: &fakeBackend{
			volumes:  map[backend.ID]backend.Volume{"pvc-1": {ID: "pvc-1", Name: "pvc-1", Bytes: 1 << 20, FSType: "ext4"}},
			attached: map[backend.ID]bool{}, fail: map[string]error{},
		},
		mounts: &fakeMounts{devices: map[string]uint64{"/dev/pvc-1": number("pvc-1")}, fail: map[string]error{}},
	}
	var err error
	f.Server, err = New(Config{
		NodeName: "node-a", Backend: f.backend, Mounts: f.mounts, Log: slog.New(slog.DiscardHandler),
		Check: func(_ context.Context, device, _ string) error {
			f.checked = append(f.checked, device)
			return f.backend.fail["check"]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}
