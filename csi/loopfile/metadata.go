// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/internal/atomicfile"
)

// ErrMetadata: the description of a volume cannot be understood.
var ErrMetadata = errors.New("malformed volume metadata")

// version of the metadata format.
const version = 1

// metadata is volume.json.
type metadata struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Bytes   int64     `json:"bytes"`
	FSType  string    `json:"fsType"`
	Created time.Time `json:"created"`
}

func writeMetadata(dir string, v backend.Volume) error {
	data, err := json.Marshal(metadata{
		Version: version, ID: string(v.ID), Name: v.Name,
		Bytes: v.Bytes, FSType: v.FSType, Created: v.Created,
	})
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, metadataName), append(data, '\n'), 0o600)
}

func readMetadata(dir string, id backend.ID) (backend.Volume, error) {
	data, err := os.ReadFile(filepath.Join(dir, metadataName))
	if errors.Is(err, os.ErrNotExist) {
		return backend.Volume{}, fmt.Errorf("read metadata of %s: %w", id, backend.ErrNotFound)
	}
	if err != nil {
		return backend.Volume{}, fmt.Errorf("read metadata of %s: %w", id, err)
	}
	v, err := parseMetadata(data)
	if err != nil {
		return backend.Volume{}, fmt.Errorf("read metadata of %s: %w", id, err)
	}
	if v.ID != id {
		return backend.Volume{}, fmt.Errorf("read metadata of %s: id is %s: %w", id, v.ID, ErrMetadata)
	}
	return v, nil
}

// parseMetadata accepts what writeMetadata writes and nothing else, so that
// a newer format is not half understood.
func parseMetadata(data []byte) (backend.Volume, error) {
	var m metadata
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return backend.Volume{}, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return backend.Volume{}, fmt.Errorf("%w: more than one value", ErrMetadata)
	}
	if m.Version != version {
		return backend.Volume{}, fmt.Errorf("%w: version %d", ErrMetadata, m.Version)
	}
	id, err := backend.ParseID(m.ID)
	if err != nil {
		return backend.Volume{}, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if m.Bytes <= 0 || !filesystem.Known(m.FSType) {
		return backend.Volume{}, fmt.Errorf("%w: %d bytes of %q", ErrMetadata, m.Bytes, m.FSType)
	}
	return backend.Volume{ID: id, Name: m.Name, Bytes: m.Bytes, FSType: m.FSType, Created: m.Created}, nil
}
