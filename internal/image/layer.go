// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// File is a file or a directory in an image, owned by root.
type File struct {
	// Path is the absolute, clean path in the image.
	Path string
	// Mode holds the permission bits; with fs.ModeDir it is a directory,
	// with fs.ModeSticky as /tmp has it.
	Mode fs.FileMode
	// Source is the file on this machine to take the content from.
	Source string
	// Bytes is the content when there is no Source.
	Bytes []byte
}

// entries checks the files, adds the parents they need, and sorts them so
// that every directory comes before what is in it.
func entries(files []File) ([]File, error) {
	byPath := map[string]File{}
	for _, file := range files {
		if err := file.validate(); err != nil {
			return nil, err
		}
		if _, twice := byPath[file.Path]; twice {
			return nil, fmt.Errorf("file %s: given twice", file.Path)
		}
		byPath[file.Path] = file
	}
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			parent, known := byPath[dir]
			if known && !parent.Mode.IsDir() {
				return nil, fmt.Errorf("file %s: %s is not a directory", file.Path, dir)
			}
			if !known {
				byPath[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	sorted := make([]File, 0, len(byPath))
	for _, file := range byPath {
		sorted = append(sorted, file)
	}
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return sorted, nil
}

func (f File) validate() error {
	const known = fs.ModePerm | fs.ModeDir | fs.ModeSticky
	switch {
	case !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/":
		return fmt.Errorf("file %q: expected an absolute, clean path", f.Path)
	case f.Mode&^known != 0:
		return fmt.Errorf("file %s: mode %v is not that of a plain file or directory", f.Path, f.Mode)
	case f.Source != "" && f.Bytes != nil:
		return fmt.Errorf("file %s: both a source and bytes given", f.Path)
	case f.Mode.IsDir() && (f.Source != "" || f.Bytes != nil):
		return fmt.Errorf("file %s: a directory has no content", f.Path)
	}
	return nil
}

// stream gives the layer's tar archive as it is being written.
func stream(files []File) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		for _, file := range files {
			if err := file.write(archive); err != nil {
				w.CloseWithError(fmt.Errorf("file %s: %w", file.Path, err))
				return
			}
		}
		w.CloseWithError(archive.Close())
	}()
	return r
}

func (f File) write(archive *tar.Writer) error {
	content, size, err := f.open()
	if err != nil {
		return err
	}
	defer content.Close()
	header := &tar.Header{
		Format:   tar.FormatPAX,
		Typeflag: tar.TypeReg,
		Name:     strings.TrimPrefix(f.Path, "/"),
		Size:     size,
		Mode:     int64(f.Mode.Perm()),
		ModTime:  created,
	}
	if f.Mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	if f.Mode.IsDir() {
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, content)
	return err
}

// open gives the content and its size in bytes.
func (f File) open() (io.ReadCloser, int64, error) {
	if f.Source == "" {
		return io.NopCloser(bytes.NewReader(f.Bytes)), int64(len(f.Bytes)), nil
	}
	source, err := os.Open(f.Source)
	if err != nil {
		return nil, 0, err
	}
	info, err := source.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New(f.Source + " is not a regular file")
	}
	if err != nil {
		source.Close()
		return nil, 0, err
	}
	return source, info.Size(), nil
}
