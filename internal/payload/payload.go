// SPDX-License-Identifier: Apache-2.0

// Package payload holds the helper programs that are embedded in slipway: the
// process of the pod sandbox, the CNI executable and the containerd shim.
// `make build` puts them into files/ARCHITECTURE/, compressed with gzip; a plain `go build`
// works too and gives a program without them. The package only reads; any
// number of goroutines may use it.
package payload

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"slipway.dev/slipway/internal/atomicfile"
)

// MissingError says that a helper program was not embedded.
type MissingError struct {
	// Name is the program's name.
	Name string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("this slipway was built without its helper programs (%s): build it with `make build`", e.Name)
}

// Read returns a helper program. It fails with a *MissingError when the
// program was not embedded.
func Read(name string) ([]byte, error) { return read(files, name) }

// Extract writes the named helper programs into dir, which it makes if need
// be, with mode 0755. A file that already has the right content and mode is
// left alone; any other is replaced atomically, so that a running program
// keeps its old file. It fails with a *MissingError as Read does.
func Extract(dir string, names ...string) error { return extract(files, dir, names) }

func extract(from fs.FS, dir string, names []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("extract helper programs: %w", err)
	}
	for _, name := range names {
		program, err := read(from, name)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, name), program, 0o755); err != nil {
			return fmt.Errorf("extract helper program: %w", err)
		}
	}
	return nil
}

func read(from fs.FS, name string) ([]byte, error) {
	packed, err := fs.ReadFile(from, path.Join("files", runtime.GOARCH, name+".gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Name: name}
	}
	if err != nil {
		return nil, fmt.Errorf("read helper program: %w", err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack helper program %s: %w", name, err)
	}
	program, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, fmt.Errorf("unpack helper program %s: %w", name, err)
	}
	return program, nil
}
