// SPDX-License-Identifier: Apache-2.0

// Package snapshot saves a cluster into one file and makes a data directory
// from such a file again. A snapshot is a compressed tar archive: first a
// manifest, then etcd's own snapshot, and the keys without which its content
// would be worth little: the authorities, the key of service-account tokens
// and the one that Secrets are encrypted with. It is as secret as these.
//
// Functions have no state in common; two of them must not write to the same
// file at once.
package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// format is the version of the archive. It grows when an older program could
// not read what a newer one writes.
const format = 1

const (
	manifestName = "manifest.json"
	databaseName = "etcd.db"
	keysDir      = "pki"
)

// Manifest says what a snapshot holds.
type Manifest struct {
	Format     int       `json:"format"`
	Slipway    string    `json:"slipway"`
	Kubernetes string    `json:"kubernetes"`
	Node       string    `json:"node"`
	Time       time.Time `json:"time"`
	// Revision is etcd's when the snapshot was taken, Keys how many it has.
	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"`
	// Files are the others in the archive, with their SHA-256.
	Files map[string]string `json:"files"`
}

// Source is what is saved.
type Source struct {
	// Endpoint is a client URL of etcd.
	Endpoint string
	// Keys are files that a cluster cannot be brought back without.
	Keys []string
	// Manifest has the versions and the node's name.
	Manifest Manifest
}

// Save writes a snapshot of a running cluster to the file at path, which
// appears when it is whole and on the disk. Until then its parts are in a
// directory beside it.
func Save(ctx context.Context, from Source, path string) (Manifest, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Manifest{}, fmt.Errorf("save snapshot: %w", err)
	}
	work, err := makeWork(dir)
	if err != nil {
		return Manifest{}, fmt.Errorf("save snapshot: %w", err)
	}
	defer work.remove()
	m, err := collect(from.Keys, work.dir, func() (Manifest, error) {
		return takeDatabase(ctx, from, filepath.Join(work.dir, databaseName))
	})
	if err == nil {
		err = write(path, work.dir, m, slices.Sorted(maps.Keys(m.Files)))
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("save snapshot %s: %w", path, err)
	}
	return m, nil
}

// collect puts the keys below dir, beside the database that take puts there.
// The keys must be those that the database was written with, so both are taken
// again when the keys have changed meanwhile.
func collect(paths []string, dir string, take func() (Manifest, error)) (Manifest, error) {
	for {
		keys, err := readKeys(paths)
		if err != nil {
			return Manifest{}, err
		}
		m, err := take()
		if err != nil {
			return Manifest{}, err
		}
		now, err := readKeys(paths)
		if err != nil {
			return Manifest{}, err
		}
		if maps.EqualFunc(keys, now, bytes.Equal) {
			return m, copyKeys(keys, dir, &m)
		}
	}
}

// readKeys returns the content of the key files by their names in the archive.
func readKeys(paths []string) (map[string][]byte, error) {
	keys := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		keys[keysDir+"/"+filepath.Base(path)] = data
	}
	return keys, nil
}

func copyKeys(keys map[string][]byte, dir string, m *Manifest) error {
	if err := os.Mkdir(filepath.Join(dir, keysDir), 0o700); err != nil {
		return err
	}
	for name, data := range keys {
		sum := sha256.Sum256(data)
		m.Files[name] = hex.EncodeToString(sum[:])
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// takeDatabase asks etcd for its snapshot and finds out what is in it.
func takeDatabase(ctx context.Context, from Source, to string) (Manifest, error) {
	etcd := snapshot.NewV3(zap.NewNop())
	if _, err := etcd.Save(ctx, clientv3.Config{Endpoints: []string{from.Endpoint}, Logger: zap.NewNop()}, to); err != nil {
		return Manifest{}, fmt.Errorf("ask etcd: %w", err)
	}
	sum, err := verifyDatabase(to)
	if err != nil {
		return Manifest{}, err
	}
	status, err := etcd.Status(to)
	if err != nil {
		return Manifest{}, fmt.Errorf("read what etcd has sent: %w", err)
	}
	m := from.Manifest
	m.Format, m.Time = format, time.Now().UTC()
	m.Revision, m.Keys, m.Files = status.Revision, status.TotalKey, map[string]string{databaseName: sum}
	return m, nil
}

// verifyDatabase compares etcd's snapshot with the SHA-256 that etcd has put at
// its end, and returns that of the whole file.
func verifyDatabase(path string) (sum string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() < sha256.Size {
		return "", fmt.Errorf("etcd has sent %d bytes, too few for a snapshot", info.Size())
	}
	all := sha256.New()
	if _, err := io.CopyN(all, file, info.Size()-sha256.Size); err != nil {
		return "", err
	}
	have := all.Sum(nil)
	want, err := io.ReadAll(io.TeeReader(file, all))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(have, want) {
		return "", fmt.Errorf("what etcd has sent is damaged: its SHA-256 is %x, expected %x", have, want)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// write makes the archive of these files below work and renames it to path.
func write(path, work string, m Manifest, files []string) error {
	temp := filepath.Join(work, "archive")
	out, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := encode(out, work, m, files); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func encode(out io.Writer, work string, m Manifest, files []string) error {
	zip, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zip)
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	header := &tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(data)), ModTime: m.Time}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := archive.Write(data); err != nil {
		return err
	}
	for _, name := range files {
		if err := add(archive, name, filepath.Join(work, name), m.Time); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}

func add(archive *tar.Writer, name, path string, when time.Time) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: when}); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}
