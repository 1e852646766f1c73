// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"slipway.dev/slipway/apiserver"
)

// server is a data directory with an etcd that can run on it.
type server struct {
	dir  string
	etcd apiserver.EtcdConfig
}

func newServer(t *testing.T) server {
	t.Helper()
	// Paths of sockets may not be long.
	sockets, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	dir := t.TempDir()
	return server{dir: dir, etcd: apiserver.EtcdConfig{
		Dir: filepath.Join(dir, "etcd"), SocketDir: sockets, LogFile: filepath.Join(dir, "etcd.log"),
	}}
}

func (s server) target() Target {
	return Target{
		EtcdDir: s.etcd.Dir, KeysDir: filepath.Join(s.dir, "pki"), Member: s.etcd.MemberName(), PeerURL: s.etcd.PeerURL(),
	}
}

func (s server) key() string { return filepath.Join(s.dir, "pki", "ca.key") }

func (s server) source() Source {
	return Source{Endpoint: s.etcd.Endpoint(), Keys: []string{s.key()}, Manifest: Manifest{Slipway: "v9"}}
}

func (s server) writeKey(t *testing.T, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.key()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.key(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs etcd while do works with it.
func (s server) run(t *testing.T, do func(*clientv3.Client)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	etcd, err := apiserver.StartEtcd(ctx, s.etcd)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- etcd.Run(ctx) }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	do(client)
	client.Close()
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	r, err := client.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func get(t *testing.T, client *clientv3.Client, key string) string {
	t.Helper()
	r, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func save(t *testing.T, s server, path string) Manifest {
	t.Helper()
	m, err := Save(t.Context(), s.source(), path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What was saved comes back on an empty machine; revisions go on from beyond
// those that clients have seen, and none from before can be watched.
func TestSaveRestore(t *testing.T) {
	old, file := newServer(t), filepath.Join(t.TempDir(), "s.tar.gz")
	old.writeKey(t, "key")
	var seen int64
	old.run(t, func(c *clientv3.Client) {
		for i := range 100 {
			put(t, c, fmt.Sprintf("/key/%d", i), strings.Repeat("x", 1000))
		}
		m := save(t, old, file)
		if m.Keys != 100 || m.Revision < 100 || m.Slipway != "v9" {
			t.Errorf("manifest %+v", m)
		}
		seen = put(t, c, "/later", "later")
	})
	fresh := newServer(t)
	if kept, err := Restore(file, fresh.target()); err != nil || len(kept) > 0 {
		t.Fatal(kept, err)
	}
	if data, err := os.ReadFile(fresh.key()); err != nil || string(data) != "key" {
		t.Errorf("the key is %q, %v", data, err)
	}
	fresh.run(t, func(c *clientv3.Client) {
		if get(t, c, "/key/99") != strings.Repeat("x", 1000) || get(t, c, "/later") != "" {
			t.Error("the keys are not those of the snapshot")
		}
		wantCompacted(t, c, seen)
		if now := put(t, c, "/new", "new"); now <= seen {
			t.Errorf("revision %d after %d", now, seen)
		}
	})
}

// wantCompacted watches from a revision that a client has seen before.
func wantCompacted(t *testing.T, c *clientv3.Client, seen int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for answer := range c.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithRev(seen)) {
		if answer.CompactRevision > seen {
			return
		}
		t.Errorf("a watch from revision %d gets %+v", seen, answer)
	}
	t.Error("a watch from before the restore is not told to start anew")
}

// A restore needs force where there is a cluster, and keeps it.
func TestRestoreOver(t *testing.T) {
	s, file := newServer(t), filepath.Join(t.TempDir(), "s.tar.gz")
	s.writeKey(t, "old")
	s.run(t, func(c *clientv3.Client) {
		put(t, c, "/key", "old")
		save(t, s, file)
		put(t, c, "/key", "new")
	})
	s.writeKey(t, "new")
	to := s.target()
	if _, err := Restore(file, to); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("error %v, expected one that names --force", err)
	}
	wantOnly(t, s.dir, "etcd", "etcd.log", "pki")
	to.Force = true
	kept, err := Restore(file, to)
	if err != nil || len(kept) != 2 {
		t.Fatal(kept, err)
	}
	for dir, want := range map[string]string{kept[0]: "new", s.target().KeysDir: "old"} {
		if data, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || string(data) != want {
			t.Errorf("%s: key %q, %v, expected %q", dir, data, err, want)
		}
	}
	s.run(t, func(c *clientv3.Client) {
		if got := get(t, c, "/key"); got != "old" {
			t.Errorf("restored %q", got)
		}
	})
	if err := os.Rename(kept[1], filepath.Join(t.TempDir(), "etcd")); err != nil {
		t.Error(err)
	}
}

// A restore that is killed between any two steps is finished by the next start.
func TestFinish(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.tar.gz")
	saved := newServer(t)
	saved.writeKey(t, "restored")
	saved.run(t, func(c *clientv3.Client) { put(t, c, "/key", "x"); save(t, saved, file) })
	for steps := range 5 {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			s := newServer(t)
			s.writeKey(t, "before")
			if err := os.MkdirAll(filepath.Join(s.etcd.Dir, "before"), 0o700); err != nil {
				t.Fatal(err)
			}
			ready := filepath.Join(s.dir, readyPrefix+"T")
			if err := os.Mkdir(ready, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := build(file, ready, s.target()); err != nil {
				t.Fatal(err)
			}
			pki := filepath.Join(s.dir, "pki")
			for _, move := range [][2]string{
				{pki, pki + ".before-restore-T"}, {filepath.Join(ready, "pki"), pki},
				{s.etcd.Dir, s.etcd.Dir + ".before-restore-T"}, {filepath.Join(ready, "etcd"), s.etcd.Dir},
			}[:steps] {
				if err := os.Rename(move[0], move[1]); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if _, err := Finish(s.target()); err != nil {
					t.Fatal(err)
				}
			}
			wantOnly(t, s.dir, "etcd", "etcd.before-restore-T", "pki", "pki.before-restore-T")
			if data, _ := os.ReadFile(s.key()); string(data) != "restored" || !exists(filepath.Join(s.etcd.Dir, "member")) {
				t.Errorf("key %q", data)
			}
			if !exists(filepath.Join(s.etcd.Dir+".before-restore-T", "before")) {
				t.Error("what was there before is gone")
			}
		})
	}
}

// The keys of a snapshot are those that its database was written with, also
// when they change while it is made.
func TestSaveWhileKeysChange(t *testing.T) {
	key, dir := filepath.Join(t.TempDir(), "ca.key"), t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("0")
	took := 0
	_, err := collect([]string{key}, dir, func() (Manifest, error) {
		if took++; took < 3 {
			write(fmt.Sprint(took))
		}
		return Manifest{Revision: int64(took), Files: map[string]string{}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, keysDir, "ca.key")); err != nil || string(got) != "2" || took != 3 {
		t.Errorf("key %q, %v, with the database taken %d times", got, err, took)
	}
}

// A snapshot that fails leaves nothing, and what an earlier one that was killed
// has left goes with the next.
func TestSaveFails(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	s.writeKey(t, "key")
	dead, long := filepath.Join(dir, workPrefix+"dead"), time.Now().Add(-time.Hour)
	if err := errors.Join(os.Mkdir(dead, 0o700), os.WriteFile(filepath.Join(dead, "etcd.db"), nil, 0o600), os.Chtimes(dead, long, long)); err != nil {
		t.Fatal(err)
	}
	other, err := makeWork(dir)
	if err != nil {
		t.Fatal(err)
	}
	if exists(dead) {
		t.Error("the directory of a dead process is there still")
	}
	if err := os.Chtimes(other.dir, long, long); err != nil {
		t.Fatal(err)
	}
	s.run(t, func(c *clientv3.Client) {
		put(t, c, "/key", "x")
		save(t, s, filepath.Join(dir, "good.tar.gz"))
		if err := os.Remove(s.key()); err != nil {
			t.Fatal(err)
		}
		if _, err := Save(t.Context(), s.source(), filepath.Join(dir, "bad.tar.gz")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
	wantOnly(t, dir, filepath.Base(other.dir), "good.tar.gz")
	other.remove()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.writeKey(t, "key")
	if _, err := Save(ctx, s.source(), filepath.Join(dir, "bad.tar.gz")); err == nil {
		t.Error("saved without etcd")
	}
	wantOnly(t, dir, "good.tar.gz")
}

func TestVerifyDatabase(t *testing.T) {
	s := newServer(t)
	path := filepath.Join(t.TempDir(), databaseName)
	s.run(t, func(c *clientv3.Client) {
		put(t, c, "/key", "x")
		if _, err := takeDatabase(t.Context(), s.source(), path); err != nil {
			t.Fatal(err)
		}
	})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	for _, bad := range [][]byte{data, data[:len(data)-512], data[:10], nil} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verifyDatabase(path); err == nil {
			t.Errorf("%d bytes that etcd has not sent so were taken", len(bad))
		}
	}
}

func wantOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, expected %v", dir, names, want)
	}
}
