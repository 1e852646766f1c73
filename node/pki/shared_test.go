// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// memory is a store of one value.
type memory struct {
	mu   sync.Mutex
	data []byte
}

func (m *memory) Get(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, nil
}

func (m *memory) Create(_ context.Context, data []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data != nil {
		return false, nil
	}
	m.data = data
	return true, nil
}

func fillKeys(dir string) error {
	for _, name := range []string{"ca", "front-proxy-ca"} {
		if _, err := LoadAuthority(dir, name); err != nil {
			return err
		}
	}
	return EnsureKey(dir, "service-account")
}

func share(t *testing.T, store Store, token string) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	return dir, Share(t.Context(), store, []byte(token), dir, SharedFiles, fillKeys)
}

func TestShare(t *testing.T) {
	store := &memory{}
	var dirs []string
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		wait.Go(func() {
			dir, err := share(t, store, "secret")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			dirs = append(dirs, dir)
			mu.Unlock()
		})
	}
	wait.Wait()
	want := readAll(t, dirs[0])
	for _, dir := range dirs[1:] {
		have := readAll(t, dir)
		for name, data := range want {
			if string(have[name]) != string(data) {
				t.Errorf("%s differs between servers", name)
			}
		}
	}
	if strings.Contains(string(store.data), "PRIVATE KEY") {
		t.Error("a key is in the store as it is")
	}
}

func TestShareRefuses(t *testing.T) {
	store := &memory{}
	dir, err := share(t, store, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := share(t, store, "wrong"); !errors.Is(err, ErrToken) || exists(filepath.Join(other, "ca.crt")) {
		t.Errorf("wrong token: %v", err)
	}
	if err := Share(t.Context(), store, []byte("secret"), dir, SharedFiles, fillKeys); err != nil {
		t.Errorf("the second start: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, dir)
	err = Share(t.Context(), store, []byte("secret"), dir, SharedFiles, fillKeys)
	if err == nil || !strings.Contains(err.Error(), "belongs to another cluster") {
		t.Errorf("other keys: %v", err)
	}
	for name, data := range readAll(t, dir) {
		if string(before[name]) != string(data) {
			t.Errorf("%s was changed", name)
		}
	}
	if _, err := share(t, &memory{data: []byte("{}")}, "secret"); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
}

// What is not an authority or a key that stays may be changed on a server, as
// the key of Secrets is; the next start leaves it alone.
func TestShareKeepsChanged(t *testing.T) {
	const extra = "encryption.json"
	store, dir := &memory{}, filepath.Join(t.TempDir(), "pki")
	fill := func(to string) error {
		return errors.Join(fillKeys(to), os.WriteFile(filepath.Join(to, extra), []byte("first"), 0o600))
	}
	names := append([]string{extra}, SharedFiles...)
	start := func(dir string) {
		t.Helper()
		if err := Share(t.Context(), store, []byte("secret"), dir, names, fill); err != nil {
			t.Fatal(err)
		}
	}
	start(dir)
	if err := os.WriteFile(filepath.Join(dir, extra), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(dir)
	other := filepath.Join(t.TempDir(), "pki")
	start(other)
	for dir, want := range map[string]string{dir: "changed", other: "first"} {
		if have := string(readAll(t, dir)[extra]); have != want {
			t.Errorf("%s has %q, expected %q", dir, have, want)
		}
	}
}
