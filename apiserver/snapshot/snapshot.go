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
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
// appears when it is whole and on the disk.
func Save(ctx context.Context, from Source, path string) (Manifest, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Manifest{}, fmt.Errorf("save snapshot: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".snapshot-")
	if err != nil {
		return Manifest{}, fmt.Errorf("save snapshot: %w", err)
	}
	defer os.RemoveAll(work)
	m, files, err := collect(ctx, from, work)
	if err == nil {
		err = write(path, filepath.Join(work, "archive"), m, files)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("save snapshot %s: %w", path, err)
	}
	return m, nil
}

// collect takes etcd's snapshot and lists all files, by name in the archive.
func collect(ctx context.Context, from Source, work string) (Manifest, map[string]string, error) {
	database := filepath.Join(work, databaseName)
	etcd := snapshot.NewV3(zap.NewNop())
	if _, err := etcd.Save(ctx, clientv3.Config{Endpoints: []string{from.Endpoint}, Logger: zap.NewNop()}, database); err != nil {
		return Manifest{}, nil, fmt.Errorf("ask etcd: %w", err)
	}
	status, err := etcd.Status(database)
	if err != nil {
		return Manifest{}, nil, fmt.Errorf("read what etcd has sent: %w", err)
	}
	m := from.Manifest
	m.Format, m.Time = format, time.Now().UTC()
	m.Revision, m.Keys, m.Files = status.Revision, status.TotalKey, map[string]string{}
	files := map[string]string{databaseName: database}
	for _, key := range from.Keys {
		files[keysDir+"/"+filepath.Base(key)] = key
	}
	for name, file := range files {
		if m.Files[name], err = hash(file); err != nil {
			return Manifest{}, nil, err
		}
	}
	return m, files, nil
}

func hash(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// write makes the archive at temp and renames it.
func write(path, temp string, m Manifest, files map[string]string) error {
	out, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := encode(out, m, files); err != nil {
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

func encode(out io.Writer, m Manifest, files map[string]string) error {
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
	for name, file := range files {
		if err := add(archive, name, file, m.Time); err != nil {
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
