// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

// testBuilder has files of their own names for all that images are made of.
func testBuilder(t *testing.T) *builder {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{
		"agnhost", "coredns", "busybox", "bash-static", "nonewprivs", "regression-issue-74839", "etcd", "sample-apiserver", "pause",
		"agnhost/porter/localhost.crt", "agnhost/porter/localhost.key",
		"kitten/html/kitten.jpg", "kitten/html/data.json", "nautilus/html/nautilus.jpg", "nautilus/html/data.json",
	} {
		at := filepath.Join(dir, "programs", name)
		if filepath.Base(name) != name {
			at = filepath.Join(dir, "sources", name)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(filepath.Base(name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base, err := os.Create(filepath.Join(dir, "base.tar"))
	if err != nil {
		t.Fatal(err)
	}
	l := &layer{tar: tar.NewWriter(base)}
	l.text("/etc/os-release", "debian")
	if l.err != nil || l.tar.Close() != nil || base.Close() != nil {
		t.Fatal("write base")
	}
	return &builder{programs: filepath.Join(dir, "programs"), sources: filepath.Join(dir, "sources"), base: base.Name()}
}

// file is what an image has at a path.
type file struct {
	content string
	mode    int64
	link    string
}

// files are those of an image, as a container sees them.
func files(t *testing.T, img v1.Image) map[string]file {
	t.Helper()
	found := map[string]file{}
	content := mutate.Extract(img)
	defer content.Close()
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		found["/"+header.Name] = file{string(data), header.Mode, header.Linkname}
	}
}

func TestImages(t *testing.T) {
	b := testBuilder(t)
	out := filepath.Join(t.TempDir(), "images.tar")
	if err := b.run(out); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		image imageutils.ImageID
		path  string
		want  file
	}{
		{imageutils.Agnhost, "/agnhost", file{"agnhost", 0o755, ""}},
		{imageutils.Agnhost, "/agnhost-2", file{"", 0o777, "agnhost"}},
		{imageutils.Agnhost, "/etc/os-release", file{"debian", 0o644, ""}},
		{imageutils.BusyBox, "/bin/sh", file{"", 0o777, "bash"}},
		{imageutils.BusyBox, "/bin/wget", file{"", 0o777, "busybox"}},
		{imageutils.BusyBox, "/tmp", file{"", 0o1777, ""}},
		{imageutils.Kitten, "/data.json", file{"data.json", 0o644, ""}},
		{imageutils.Kitten, "/etc/os-release", file{"NAME=\"Alpine Linux\"\nID=alpine\n", 0o644, ""}},
		{imageutils.Nonewprivs, "/usr/local/bin/nnp", file{"nonewprivs", 0o6755, ""}},
		{imageutils.Pause, "/pause", file{"pause", 0o755, ""}},
	} {
		tag, err := name.NewTag(imageutils.GetE2EImage(test.image))
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(out, &tag)
		if err != nil {
			t.Errorf("%s: %v", tag, err)
			continue
		}
		if got := files(t, img)[test.path]; got != test.want {
			t.Errorf("%s: %s is %+v, want %+v", tag, test.path, got, test.want)
		}
	}
}

func TestImagesDiffer(t *testing.T) {
	b := testBuilder(t)
	digests := map[imageutils.ImageID]string{}
	for _, r := range b.recipes() {
		img, err := r.build()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[r.image] = digest.String()
	}
	if digests[imageutils.Nginx] == digests[imageutils.NginxNew] {
		t.Error("an update from the old nginx to the new one would change nothing")
	}
}

func TestImagesNeedTheirPrograms(t *testing.T) {
	b := testBuilder(t)
	if err := os.Remove(filepath.Join(b.programs, "etcd")); err != nil {
		t.Fatal(err)
	}
	if err := b.run(filepath.Join(t.TempDir(), "images.tar")); !os.IsNotExist(err) {
		t.Errorf("got error %v, want that of a file that is not there", err)
	}
}
