// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"slipway.dev/slipway/internal/atomicfile"
)

// Store is where servers of one cluster find each other's keys.
type Store interface {
	// Get returns nil when there is nothing yet.
	Get(ctx context.Context) ([]byte, error)
	// Create stores data unless there is something, and tells which.
	Create(ctx context.Context, data []byte) (created bool, err error)
}

// ErrToken tells that the cluster token is not that of the cluster.
var ErrToken = errors.New("the token is not that of this cluster")

// SharedFiles are the keys that all servers of a cluster have in common for
// good. Those that a caller adds may be changed later on each server.
var SharedFiles = []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "service-account.key", "service-account.pub"}

// Share makes dir hold the keys of the cluster: those in the store, or, on the
// first server, those that fill makes; then the store gets them, encrypted
// with the token. A server that has other keys already belongs to another
// cluster, and nothing is changed.
func Share(ctx context.Context, store Store, token []byte, dir string, names []string, fill func(dir string) error) error {
	for {
		data, err := store.Get(ctx)
		if err != nil {
			return fmt.Errorf("read the cluster's keys: %w", err)
		}
		if data != nil {
			files, err := unseal(token, data)
			if err != nil {
				return fmt.Errorf("read the cluster's keys: %w", err)
			}
			return writeShared(dir, files)
		}
		files, err := makeShared(dir, names, fill)
		if err != nil {
			return err
		}
		sealed, err := seal(token, files)
		if err != nil {
			return fmt.Errorf("encrypt the cluster's keys: %w", err)
		}
		// When another server was faster, its keys are taken.
		if _, err := store.Create(ctx, sealed); err != nil {
			return fmt.Errorf("store the cluster's keys: %w", err)
		}
	}
}

// makeShared returns the keys in dir, or new ones that are not there yet.
func makeShared(dir string, names []string, fill func(dir string) error) (map[string][]byte, error) {
	if exists(filepath.Join(dir, names[0])) {
		return readShared(dir, names)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".keys-")
	if err != nil {
		return nil, fmt.Errorf("make the cluster's keys: %w", err)
	}
	defer os.RemoveAll(fresh)
	if err := fill(fresh); err != nil {
		return nil, err
	}
	return readShared(fresh, names)
}

func readShared(dir string, names []string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("read the cluster's keys: %w", err)
		}
		files[name] = data
	}
	return files, nil
}

func writeShared(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	for _, name := range SharedFiles {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && !bytes.Equal(have, files[name]) {
			return fmt.Errorf("%s is not that of the cluster in this etcd: %s belongs to another cluster", filepath.Join(dir, name), filepath.Dir(dir))
		}
	}
	for name, data := range files {
		if !slices.Contains(SharedFiles, name) && exists(filepath.Join(dir, name)) {
			continue
		}
		if err := atomicfile.Write(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sealed is the form in the store: secretbox with a key made by scrypt
// (RFC 7914).
type sealed struct {
	Salt  []byte `json:"salt"`
	Nonce []byte `json:"nonce"`
	Box   []byte `json:"box"`
}

func seal(token []byte, files map[string][]byte) ([]byte, error) {
	plain, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	s := sealed{Salt: make([]byte, 16), Nonce: make([]byte, 24)}
	if _, err := rand.Read(s.Salt); err != nil {
		return nil, err
	}
	if _, err := rand.Read(s.Nonce); err != nil {
		return nil, err
	}
	key, err := derive(token, s.Salt)
	if err != nil {
		return nil, err
	}
	s.Box = secretbox.Seal(nil, plain, (*[24]byte)(s.Nonce), key)
	return json.Marshal(s)
}

func unseal(token, data []byte) (map[string][]byte, error) {
	var s sealed
	if err := json.Unmarshal(data, &s); err != nil || len(s.Nonce) != 24 {
		return nil, errors.New("they are damaged")
	}
	key, err := derive(token, s.Salt)
	if err != nil {
		return nil, err
	}
	plain, ok := secretbox.Open(nil, s.Box, (*[24]byte)(s.Nonce), key)
	if !ok {
		return nil, ErrToken
	}
	var files map[string][]byte
	if err := json.Unmarshal(plain, &files); err != nil {
		return nil, errors.New("they are damaged")
	}
	for name := range files {
		if filepath.Base(name) != name {
			return nil, fmt.Errorf("they hold a file %q", name)
		}
	}
	return files, nil
}

func derive(token, salt []byte) (*[32]byte, error) {
	key, err := scrypt.Key(token, salt, 1<<15, 8, 1, 32)
	if err != nil {
		return nil, err
	}
	return (*[32]byte)(key), nil
}
