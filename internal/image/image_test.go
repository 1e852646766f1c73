// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func spec(t *testing.T) Spec {
	t.Helper()
	source := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(source, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name: "slipway.dev/app:v1",
		Files: []File{
			{Path: "/usr/bin/app", Mode: 0o755, Source: source},
			{Path: "/etc/app.conf", Mode: 0o640, Bytes: []byte("on = true\n")},
			{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		},
		Entrypoint:   []string{"/usr/bin/app", "-x"},
		Env:          []string{"A=b"},
		WorkingDir:   "/tmp",
		User:         "65532:65532",
		ExposedPorts: []string{"8080/tcp"},
	}
}

func write(t *testing.T, s Spec) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, s); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t *testing.T, archive []byte, image string) v1.Image {
	t.Helper()
	tag, err := name.NewTag(image)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.Image(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestWriteConfig(t *testing.T) {
	s := spec(t)
	config, err := read(t, write(t, s), s.Name).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint:   s.Entrypoint,
		Env:          s.Env,
		WorkingDir:   "/tmp",
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("platform %s/%s, want linux/%s", config.OS, config.Architecture, runtime.GOARCH)
	}
	if len(config.RootFS.DiffIDs) != 1 {
		t.Errorf("%d layers, want 1", len(config.RootFS.DiffIDs))
	}
}

func TestWriteFiles(t *testing.T) {
	s := spec(t)
	layers, err := read(t, write(t, s), s.Name).Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	type entry struct {
		Name, Content string
		Mode          int64
	}
	var got []entry
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(created) {
			t.Errorf("%s: owner %d:%d, time %v", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		got = append(got, entry{header.Name, string(data), header.Mode})
	}
	want := []entry{
		{"etc/", "", 0o755},
		{"etc/app.conf", "on = true\n", 0o640},
		{"tmp/", "", 0o1777},
		{"usr/", "", 0o755},
		{"usr/bin/", "", 0o755},
		{"usr/bin/app", "program", 0o755},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	first := spec(t)
	second := spec(t)
	// Neither the order of the files nor the source's time and mode count.
	second.Files[0], second.Files[1] = second.Files[1], second.Files[0]
	if err := os.Chmod(second.Files[1].Source, 0o755); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(write(t, first), write(t, second)) {
		t.Error("equal specs gave different archives")
	}
}

func TestWriteRefuses(t *testing.T) {
	file := func(f File) func(*Spec) { return func(s *Spec) { s.Files = append(s.Files, f) } }
	for _, test := range []struct {
		name, want string
		change     func(*Spec)
	}{
		{"name without tag", "image name", func(s *Spec) { s.Name = "slipway.dev/app" }},
		{"name without registry", "image name", func(s *Spec) { s.Name = "app:v1" }},
		{"no entrypoint", "no entrypoint", func(s *Spec) { s.Entrypoint = nil }},
		{"relative path", "absolute, clean path", file(File{Path: "etc/x"})},
		{"path that leaves", "absolute, clean path", file(File{Path: "/../x"})},
		{"root", "absolute, clean path", file(File{Path: "/", Mode: fs.ModeDir})},
		{"twice", "given twice", file(File{Path: "/tmp", Mode: fs.ModeDir})},
		{"below a file", "not a directory", file(File{Path: "/etc/app.conf/x"})},
		{"device", "not that of a plain file", file(File{Path: "/dev/x", Mode: fs.ModeDevice})},
		{"two contents", "both a source and bytes", file(File{Path: "/x", Source: "x", Bytes: []byte("x")})},
		{"directory with content", "no content", file(File{Path: "/x", Mode: fs.ModeDir, Bytes: []byte("x")})},
		{"no such source", "no such file", file(File{Path: "/x", Source: "/nonexistent/x"})},
		{"source is a directory", "not a regular file", file(File{Path: "/x", Source: "/"})},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := spec(t)
			test.change(&s)
			err := Write(io.Discard, s)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}
