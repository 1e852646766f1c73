// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// archive writes a snapshot without etcd: its database is any text.
func archive(t *testing.T, path string, edit func(*Manifest)) {
	t.Helper()
	work := t.TempDir()
	m := Manifest{Format: format, Slipway: "v9", Time: time.Unix(1e9, 0).UTC(), Files: map[string]string{}}
	if err := copyKeys(map[string][]byte{keysDir + "/ca.key": []byte("key")}, work, &m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, databaseName), []byte("database"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("database"))
	m.Files[databaseName] = hex.EncodeToString(sum[:])
	files := maps.Clone(m.Files)
	edit(&m)
	// The archive holds what it held before the edit of the manifest.
	if err := write(path, work, m, slices.Sorted(maps.Keys(files))); err != nil {
		t.Fatal(err)
	}
}

func TestUnpack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.tar.gz")
	archive(t, path, func(*Manifest) {})
	dir := t.TempDir()
	if err := unpack(path, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{databaseName: "database", keysDir + "/ca.key": "key"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the snapshot is %v, %v", info, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*Manifest)
		says string
	}{
		"newer format":  {func(m *Manifest) { m.Format = 7 }, "format 7, written by slipway v9"},
		"no format":     {func(m *Manifest) { m.Format = 0 }, "format 0"},
		"other content": {func(m *Manifest) { m.Files[databaseName] = strings.Repeat("0", 64) }, "the file is damaged"},
		"one more":      {func(m *Manifest) { m.Files["pki/x.key"] = "x" }, "pki/x.key is missing"},
		"one less":      {func(m *Manifest) { delete(m.Files, "pki/ca.key") }, "does not name"},
		"no database":   {func(m *Manifest) { delete(m.Files, databaseName) }, "without etcd.db"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.tar.gz")
			archive(t, path, tt.edit)
			if err := unpack(path, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, expected one with %q", err, tt.says)
			}
		})
	}
}

// A snapshot that ends anywhere but at its end is refused.
func TestUnpackRefusesEveryPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.tar.gz")
	archive(t, path, func(*Manifest) {})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for length := range len(data) {
		part := filepath.Join(t.TempDir(), "part.tar.gz")
		if err := os.WriteFile(part, data[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpack(part, t.TempDir()); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a whole snapshot", length, len(data))
		}
	}
}

func TestSafe(t *testing.T) {
	for name, want := range map[string]bool{
		"etcd.db": true, "pki/ca.key": true, "../x": false, "pki/../x": false, "/etc/passwd": false, "pki/": false, "": false, "a/b": false, "pki/..": false,
	} {
		if safe(name) != want {
			t.Errorf("safe(%q) is %v", name, !want)
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, _, _, err := readManifest(bytes.NewReader(data)); err == nil && m.Files[databaseName] == "" {
			t.Error("a manifest without a database")
		}
	})
}

func TestRetain(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		when := time.Unix(1e9+int64(i)*3600, 0)
		archive(t, filepath.Join(dir, Name(Scheduled, when)), func(m *Manifest) { m.Time = when })
	}
	archive(t, filepath.Join(dir, Name(OnDemand, time.Unix(0, 0))), func(m *Manifest) { m.Time = time.Unix(0, 0) })
	bad := filepath.Join(dir, Scheduled+"bad"+extension)
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Retain(dir, 2); err != nil {
		t.Fatal(err)
	}
	all, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, filepath.Base(s.Path))
	}
	want := fmt.Sprint([]string{
		Name(OnDemand, time.Unix(0, 0)), Name(Scheduled, time.Unix(1e9+3*3600, 0)), Name(Scheduled, time.Unix(1e9+4*3600, 0)), filepath.Base(bad),
	})
	if fmt.Sprint(names) != want {
		t.Errorf("left are %v, expected %v", names, want)
	}
}
