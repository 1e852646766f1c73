// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out", "example.json")
	if _, _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("results that are not there: %v", err)
	}
	if err := Write(path, exampleAbout, exampleRows); err != nil {
		t.Fatal(err)
	}
	about, rows, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleAbout, about); diff != "" {
		t.Errorf("-wrote +read:\n%s", diff)
	}
	if diff := cmp.Diff(exampleRows, rows); diff != "" {
		t.Errorf("-wrote +read:\n%s", diff)
	}
}

// TestFormat holds the names that readers of the file rely on.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "example.json")
	if err := Write(path, exampleAbout, exampleRows[:1]); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{{
		"metric": "start", "unit": "s", "ours": 2.0, "peer": 4.0, "peer_name": "them", "ratio": 0.5, "goal": "≤ 2", "met": true,
		"better": "less", "ours_runs": []any{2.0, 1.0, 3.0}, "peer_runs": []any{4.0, 4.0, 5.0},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHere(t *testing.T) {
	here := Here()
	for name, value := range map[string]string{"date": here.Date, "kernel": here.Kernel, "machine": here.Machine, "go": here.Go} {
		if value == "" || value == "unknown" {
			t.Errorf("%s of this machine is %q", name, value)
		}
	}
}
