// SPDX-License-Identifier: Apache-2.0

package store

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func record(container string) Record {
	return Record{
		Version: version, Key: Key{ContainerID: container, IfName: "eth0"}, Network: "slipway",
		NetNS: "/run/netns/a", Namespace: "default", Pod: "web", PodUID: "u1", HostName: "slw01234567",
		HostMAC: MAC{2, 0, 0, 0, 0, 1}, PodMAC: MAC{2, 0, 0, 0, 0, 2},
		Addrs:    []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		MTU:      1500,
	}
}

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestSaveLoadDelete(t *testing.T) {
	s, dir := open(t)
	want := []Record{record("a"), record(strings.Repeat("b", 500))}
	for _, r := range want {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash within Save leaves.
	left := filepath.Join(dir, "."+want[0].Digest()+".json.123")
	if err := os.WriteFile(left, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, corrupt, err := s.Load()
	if err != nil || len(corrupt) != 0 {
		t.Fatalf("load: %v, corrupt %v", err, corrupt)
	}
	byContainer := cmpopts.SortSlices(func(a, b Record) bool { return a.ContainerID < b.ContainerID })
	if diff := cmp.Diff(want, got, byContainer, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("temporary file was not removed: %v", err)
	}
	for range 2 {
		if err := s.Delete(want[0].Key); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err = s.Load(); err != nil || len(got) != 1 {
		t.Errorf("after delete: %d records, %v", len(got), err)
	}
}

func TestLoadSetsCorruptFilesAside(t *testing.T) {
	good := func(change func(*Record)) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			r := record("bad")
			change(&r)
			if err := s.Save(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw := func(content string) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			if err := os.WriteFile(s.path(Key{"bad", "eth0"}), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name  string
		write func(*testing.T, *Store)
	}{
		{"empty", raw("")},
		{"half", raw(`{"version": 1, "containerID": "b`)},
		{"other version", raw(`{"version": 9}`)},
		{"other key", raw(`{"version": 1, "containerID": "x", "ifname": "eth0"}`)},
		{"no address", good(func(r *Record) { r.Addrs, r.Gateways = nil, nil })},
		{"no gateway", good(func(r *Record) { r.Gateways = r.Gateways[:1] })},
		{"mixed families", good(func(r *Record) { r.Gateways[0] = r.Gateways[1] })},
		{"device with a slash", good(func(r *Record) { r.HostName = "../x" })},
		{"no device", good(func(r *Record) { r.HostName = "" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := open(t)
			if err := s.Save(record("good")); err != nil {
				t.Fatal(err)
			}
			tt.write(t, s)
			got, corrupt, err := s.Load()
			if err != nil || len(got) != 1 || len(corrupt) != 1 {
				t.Fatalf("load: %d records, corrupt %v, error %v", len(got), corrupt, err)
			}
			if _, err := os.Stat(s.path(Key{"bad", "eth0"}) + corruptSuffix); err != nil {
				t.Errorf("file was not set aside: %v", err)
			}
			if _, corrupt, err = s.Load(); err != nil || len(corrupt) != 0 {
				t.Errorf("second load: corrupt %v, error %v", corrupt, err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("00", []byte(`{"version":1}`))
	f.Add(Key{"x", "eth0"}.Digest(), []byte(`{"version":1,"containerID":"x","ifname":"eth0","hostName":"slw0",
		"hostMAC":"02:00:00:00:00:01","podMAC":"02:00:00:00:00:02","addresses":["10.0.0.2"],"gateways":["10.0.0.1"]}`))
	f.Fuzz(func(t *testing.T, digest string, data []byte) {
		r, err := decode(digest, data)
		if err == nil && (r.Digest() != digest || len(r.Addrs) != len(r.Gateways) || r.HostName == "") {
			t.Errorf("accepted %+v", r)
		}
	})
}
