// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestFill(t *testing.T) {
	img, err := random.Image(1024, 2)
	if err != nil {
		t.Fatal(err)
	}
	known := name.MustParseReference("registry.k8s.io/e2e/app:1.2").(name.Tag)
	archive := filepath.Join(t.TempDir(), "images.tar")
	if err := tarball.WriteToFile(archive, known, img); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	if err := fill(address, archive); err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseReference(address + "/e2e/app:1.2")
	if err != nil {
		t.Fatal(err)
	}
	served, err := remote.Image(at)
	if err != nil {
		t.Fatal(err)
	}
	got, err := served.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := img.ConfigName(); got != want {
		t.Errorf("served %s, want %s", got, want)
	}
	if err := fill(address, archive+".missing"); err == nil {
		t.Error("no error for an archive that is not there")
	}
}
