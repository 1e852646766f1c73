// SPDX-License-Identifier: Apache-2.0

// Package image writes container images from local files, so that what
// Slipway itself needs in containers comes from its own binary and never from
// a registry. It makes images of one layer for the platform it runs on, and
// equal specs give equal bytes. It does not load, push or run images.
package image

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec describes an image.
type Spec struct {
	// Name is the full name, registry, repository and tag:
	// "slipway.dev/pause:v1".
	Name string
	// Files are what the root file system holds. Parent directories are
	// made with mode 0755; list one to give it another mode.
	Files []File
	// Entrypoint is the program and its first arguments.
	Entrypoint []string
	// Env are variables, "NAME=value".
	Env []string
	// WorkingDir is where the program starts, "/" when empty.
	WorkingDir string
	// User is "uid", "uid:gid", or a name that the image's /etc/passwd has;
	// root when empty.
	User string
	// ExposedPorts are for information, "8080/tcp".
	ExposedPorts []string
}

// created is the time stamp of everything in an image.
var created = time.Unix(0, 0).UTC()

// Write writes the image as an archive as `docker save` does, which
// containerd, Docker and Podman import. File sources are read during the call.
func Write(w io.Writer, spec Spec) error {
	tag, err := name.NewTag(spec.Name, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	img, err := build(spec)
	if err != nil {
		return fmt.Errorf("build image %s: %w", spec.Name, err)
	}
	if err := tarball.Write(tag, img, w); err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	return nil
}

func build(spec Spec) (v1.Image, error) {
	if len(spec.Entrypoint) == 0 {
		return nil, errors.New("no entrypoint given")
	}
	content, err := entries(spec.Files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return stream(content), nil
	}, tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "slipway"},
	})
	if err != nil {
		return nil, err
	}
	layers, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, spec.config(layers))
}

// config is what the image says about itself; rootfs and history come from
// its layers.
func (s Spec) config(file *v1.ConfigFile) *v1.ConfigFile {
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Created = v1.Time{Time: created}
	file.Config = v1.Config{
		Entrypoint: s.Entrypoint,
		Env:        s.Env,
		WorkingDir: s.WorkingDir,
		User:       s.User,
	}
	if len(s.ExposedPorts) > 0 {
		file.Config.ExposedPorts = map[string]struct{}{}
		for _, port := range s.ExposedPorts {
			file.Config.ExposedPorts[port] = struct{}{}
		}
	}
	return file
}
