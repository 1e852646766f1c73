// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"slipway.dev/slipway/apiserver"
)

func TestEnsure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encryption.json")
	for range 2 {
		if err := Ensure(path); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := Keys(path)
	if err != nil || !slices.Equal(keys, []string{"key1"}) {
		t.Errorf("keys %v, %v", keys, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
}

func TestReadChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encryption.json")
	if err := Ensure(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	// The order of fields is nobody's business.
	other := `{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{"providers":[
		{"secretbox":{"keys":[{"name":"key1","secret":"x"}]}},{"identity":{}}],"resources":["secrets"]}]}`
	for name, tt := range map[string]struct {
		content string
		changed bool
	}{
		"as it was":          {good, false},
		"other order":        {other, false},
		"more resources":     {strings.Replace(good, `"secrets"`, `"secrets", "configmaps"`, 1), true},
		"another provider":   {strings.Replace(good, "secretbox", "aescbc", 1), true},
		"without plain text": {strings.Replace(other, `,{"identity":{}}`, "", 1), true},
		"plain text first":   {strings.Replace(other, `"providers":[`, `"providers":[{"identity":{}},`, 1), true},
		"a field of its own": {strings.Replace(good, `"kind"`, `"note": "", "kind"`, 1), true},
		"no keys":            {`{"kind":"EncryptionConfiguration"}`, true},
		"YAML":               {"kind: EncryptionConfiguration\n", true},
	} {
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := Keys(path)
		if errors.Is(err, ErrChanged) != tt.changed || !tt.changed && len(keys) != 1 {
			t.Errorf("%s: keys %v, error %v", name, keys, err)
		}
	}
}

func TestNextName(t *testing.T) {
	for want, have := range map[string][]string{
		"key1": nil, "key2": {"key1"}, "key11": {"key10", "key9"}, "key4": {"key3", "mine"},
	} {
		var keys []apiserverv1.Key
		for _, name := range have {
			keys = append(keys, apiserverv1.Key{Name: name})
		}
		if got := nextName(keys); got != want {
			t.Errorf("after %v comes %s, expected %s", have, got, want)
		}
	}
}

func TestHasLoaded(t *testing.T) {
	const line = `apiserver_encryption_config_controller_last_config_info{apiserver_id_hash="sha256:aa",hash="sha256:bb"} 1`
	for hash, want := range map[string]bool{"sha256:bb": true, "sha256:aa": false, "sha256:b": false} {
		if hasLoaded([]byte("# HELP other\nother 1\n"+line+"\nmore 2\n"), hash) != want {
			t.Errorf("%s: %v", hash, !want)
		}
	}
}

var errKilled = errors.New("killed")

// fakeAPI writes Secrets to etcd as the API server does, with the file as it
// has last read it. It fails at one of its calls.
type fakeAPI struct {
	t      *testing.T
	file   string
	etcd   *clientv3.Client
	loaded []apiserverv1.Key
	// left counts the calls until it fails.
	left int
}

func (f *fakeAPI) call() error {
	if f.left--; f.left < 0 {
		return errKilled
	}
	return nil
}

func (f *fakeAPI) Metrics(context.Context) ([]byte, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	keys, err := read(f.file)
	if err != nil {
		return nil, err
	}
	f.loaded = keys
	hash, err := write(f.file, keys)
	return fmt.Appendf(nil, "apiserver_encryption_config_controller_last_config_info{apiserver_id_hash=\"x\",hash=%q} 1\n", hash), err
}

func (f *fakeAPI) Touch(ctx context.Context, namespace, name string) error {
	if err := f.call(); err != nil {
		return err
	}
	_, err := f.etcd.Put(ctx, secretsPrefix+namespace+"/"+name, storedPrefix+f.loaded[0].Name+":secret")
	return err
}

// A rotation that ends at any point leaves only Secrets that can be read, and
// the next one finishes it with the same key.
func TestRotateKilled(t *testing.T) {
	etcd := startEtcd(t)
	for left := range 20 {
		path := filepath.Join(t.TempDir(), "encryption.json")
		if err := Ensure(path); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			value := storedPrefix + "key1:secret"
			if i == 0 {
				value = "plain text, from before there were keys"
			}
			if _, err := etcd.Put(t.Context(), fmt.Sprintf("%sns/%d", secretsPrefix, i), value); err != nil {
				t.Fatal(err)
			}
		}
		err := rotate(t, etcd, path, left)
		wantReadable(t, etcd, path)
		// It may have ended between its last step and the proof of that.
		if keys, _ := Keys(path); err != nil && len(keys) == 1 {
			err = nil
		}
		if err != nil {
			err = rotate(t, etcd, path, 100)
		}
		if keys, keysErr := Keys(path); err != nil || keysErr != nil || !slices.Equal(keys, []string{"key2"}) {
			t.Fatalf("killed after %d calls: keys %v, %v, %v, expected key2", left, keys, err, keysErr)
		}
		wantReadable(t, etcd, path)
	}
}

// rotate runs a rotation whose API server is gone after some calls.
func rotate(t *testing.T, etcd *clientv3.Client, path string, left int) error {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	api := &fakeAPI{t: t, file: path, etcd: etcd, left: left}
	return Rotate(ctx, Cluster{File: path, API: dying{api, cancel}, Etcd: etcd, Step: func(string) {}})
}

// dying ends the rotation with the API server, as a kill would.
type dying struct {
	*fakeAPI
	cancel context.CancelCauseFunc
}

func (d dying) Metrics(ctx context.Context) ([]byte, error) {
	data, err := d.fakeAPI.Metrics(ctx)
	if err != nil {
		d.cancel(err)
	}
	return data, err
}

// wantReadable looks for Secrets that no key in the file can read.
func wantReadable(t *testing.T, etcd *clientv3.Client, path string) {
	t.Helper()
	keys, err := Keys(path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := etcd.Get(t.Context(), secretsPrefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		rest, encrypted := strings.CutPrefix(string(kv.Value), storedPrefix)
		key, _, _ := strings.Cut(rest, ":")
		if encrypted && !slices.Contains(keys, key) {
			t.Errorf("%s is encrypted with %s; there are %v", kv.Key, key, keys)
		}
	}
}

// A Secret that cannot be written, or that somebody writes with another key,
// keeps the old key.
func TestRotateKeepsKey(t *testing.T) {
	etcd := startEtcd(t)
	for name, touch := range map[string]func() error{
		"fails": func() error { return errors.New("refused by a webhook") },
		"idle":  func() error { return nil },
	} {
		path := filepath.Join(t.TempDir(), "encryption.json")
		if err := Ensure(path); err != nil {
			t.Fatal(err)
		}
		if _, err := etcd.Put(t.Context(), secretsPrefix+"ns/stuck", storedPrefix+"key1:secret"); err != nil {
			t.Fatal(err)
		}
		api := stuck{&fakeAPI{t: t, file: path, etcd: etcd, left: 100}, touch}
		err := Rotate(t.Context(), Cluster{File: path, API: api, Etcd: etcd, Step: func(string) {}})
		if keys, _ := Keys(path); err == nil || !slices.Equal(keys, []string{"key2", "key1"}) {
			t.Errorf("%s: keys %v, error %v", name, keys, err)
		}
	}
}

type stuck struct {
	*fakeAPI
	touch func() error
}

func (s stuck) Touch(context.Context, string, string) error { return s.touch() }

// More Secrets than are read at once are all found.
func TestStale(t *testing.T) {
	etcd := startEtcd(t)
	for i := range 2*pageSize + 1 {
		key := "key2"
		if i%2 == 0 {
			key = "key22"
		}
		if _, err := etcd.Put(t.Context(), fmt.Sprintf("%sns/%d", secretsPrefix, i), storedPrefix+key+":x"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := etcd.Put(t.Context(), "/registry/secretsafter/x", "x"); err != nil {
		t.Fatal(err)
	}
	stale, err := Cluster{Etcd: etcd}.stale(t.Context(), "key2")
	if err != nil || len(stale) != pageSize+1 {
		t.Errorf("%d found, %v, expected %d", len(stale), err, pageSize+1)
	}
}

func startEtcd(t *testing.T) *clientv3.Client {
	t.Helper()
	// Paths of sockets may not be long.
	sockets, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	cfg := apiserver.EtcdConfig{Dir: filepath.Join(t.TempDir(), "etcd"), SocketDir: sockets, LogFile: filepath.Join(t.TempDir(), "log")}
	server, err := apiserver.StartEtcd(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{cfg.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}
