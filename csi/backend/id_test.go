// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/csi/backend"
)

func TestParseHandle(t *testing.T) {
	for name, test := range map[string]struct {
		handle string
		want   backend.Handle
		err    error
	}{
		"provisioned":      {"pvc-9f3b@node-a", backend.Handle{ID: "pvc-9f3b", Node: "node-a"}, nil},
		"dotted node":      {"x@node-a.example.org", backend.Handle{ID: "x", Node: "node-a.example.org"}, nil},
		"empty":            {"", backend.Handle{}, backend.ErrBadHandle},
		"no node":          {"pvc-9f3b", backend.Handle{}, backend.ErrBadHandle},
		"empty node":       {"pvc-9f3b@", backend.Handle{}, backend.ErrBadHandle},
		"no id":            {"@node-a", backend.Handle{}, backend.ErrBadHandle},
		"parent directory": {"..@node-a", backend.Handle{}, backend.ErrBadHandle},
		"path":             {"a/b@node-a", backend.Handle{}, backend.ErrBadHandle},
		"path in node":     {"a@../b", backend.Handle{}, backend.ErrBadHandle},
		"two nodes":        {"a@b@c", backend.Handle{}, backend.ErrBadHandle},
		"hidden":           {".a@b", backend.Handle{}, backend.ErrBadHandle},
		"upper case":       {"A@b", backend.Handle{}, backend.ErrBadHandle},
		"too long":         {strings.Repeat("a", 64) + "@b", backend.Handle{}, backend.ErrBadHandle},
		"zero byte":        {"a\x00@b", backend.Handle{}, backend.ErrBadHandle},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := backend.ParseHandle(test.handle)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %v, %v; want %v, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestIDFor(t *testing.T) {
	if got := backend.IDFor("pvc-9f3b"); got != "pvc-9f3b" {
		t.Errorf("id of a good name is %q", got)
	}
	odd := backend.IDFor("../Some Name")
	if _, err := backend.ParseID(string(odd)); err != nil {
		t.Error(err)
	}
	if odd != backend.IDFor("../Some Name") || odd == backend.IDFor("../some name") {
		t.Error("id must depend on the name and on nothing else")
	}
}

func FuzzParseHandle(f *testing.F) {
	for _, seed := range []string{"pvc-9f3b@node-a", "../x@n", "a@b@c", "", "@", "a/../b@n", "vol-00@n.example"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		derived := backend.IDFor(s)
		if _, err := backend.ParseID(string(derived)); err != nil {
			t.Fatalf("id for %q: %v", s, err)
		}
		h, err := backend.ParseHandle(s)
		if err != nil {
			return
		}
		if h.String() != s {
			t.Fatalf("%q became %q", s, h)
		}
		path := filepath.Join("/root/volumes", string(h.ID))
		if filepath.Dir(path) != "/root/volumes" || filepath.Base(path) != string(h.ID) {
			t.Fatalf("id %q leaves its directory: %s", h.ID, path)
		}
	})
}
