// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/csi/backend"
)

func TestMetadataRoundTrip(t *testing.T) {
	dir := t.TempDir()
	want := backend.Volume{ID: "pvc-1", Name: "A \"name\"\n", Bytes: 5 << 40, FSType: "xfs", Created: time.Unix(1e9, 0).UTC()}
	if err := writeMetadata(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := readMetadata(dir, "pvc-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(dir, metadataName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if _, err := readMetadata(dir, "pvc-2"); !errors.Is(err, ErrMetadata) {
		t.Errorf("metadata of another volume: %v, want %v", err, ErrMetadata)
	}
}

func TestParseMetadataRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":       ``,
		"cut off":       `{"version":1,"id":"pvc-1","na`,
		"two values":    `{"version":1,"id":"pvc-1","name":"a","bytes":1,"fsType":"ext4"}{}`,
		"newer":         `{"version":2,"id":"pvc-1","name":"a","bytes":1,"fsType":"ext4"}`,
		"unknown field": `{"version":1,"id":"pvc-1","name":"a","bytes":1,"fsType":"ext4","more":1}`,
		"path as id":    `{"version":1,"id":"../x","name":"a","bytes":1,"fsType":"ext4"}`,
		"no size":       `{"version":1,"id":"pvc-1","name":"a","fsType":"ext4"}`,
		"file system":   `{"version":1,"id":"pvc-1","name":"a","bytes":1,"fsType":"fat"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := parseMetadata([]byte(data)); !errors.Is(err, ErrMetadata) {
				t.Errorf("got %v, %v", v, err)
			}
		})
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"pvc-1","name":"a","bytes":1048576,"fsType":"ext4","created":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":1,"id":"../../etc"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseMetadata(data)
		if err != nil {
			return
		}
		if filepath.Base(string(v.ID)) != string(v.ID) || v.ID == ".." || v.ID == "." || v.Bytes <= 0 {
			t.Fatalf("accepted %+v", v)
		}
	})
}
