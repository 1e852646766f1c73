// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
)

// namespace is where CRI keeps its images and containers.
const namespace = "k8s.io"

// Images is the image store of a node's containerd.
type Images struct{ client *containerd.Client }

// OpenImages connects to the containerd that listens on socket.
func OpenImages(socket string) (*Images, error) {
	client, err := containerd.New(socket, containerd.WithDefaultNamespace(namespace))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	return &Images{client: client}, nil
}

// Close ends the connection.
func (s *Images) Close() error { return s.client.Close() }

// pinned keeps the kubelet from removing an image when the disk gets full: one
// that was loaded by hand may be nowhere to be pulled from again.
var pinned = map[string]string{"io.cri-containerd.pinned": "pinned"}

// Load imports an image archive, OCI layout or docker save, and unpacks what
// it holds for this platform. It returns the names of the images.
func (s *Images) Load(ctx context.Context, archive io.Reader) ([]string, error) {
	here := platforms.Default()
	found, err := s.client.Import(ctx, archive,
		containerd.WithImportPlatform(here), containerd.WithSkipMissing(), containerd.WithImageLabels(pinned))
	if err != nil {
		return nil, fmt.Errorf("import image archive: %w", err)
	}
	var names []string
	for _, img := range found {
		image := containerd.NewImageWithPlatform(s.client, img, here)
		if err := image.Unpack(ctx, ""); err != nil {
			return names, fmt.Errorf("unpack image %s: %w", img.Name, err)
		}
		names = append(names, img.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("import image archive: it holds no image with a name; give it one with a tag")
	}
	return names, nil
}

// Has tells whether an image of this name is in the store.
func (s *Images) Has(ctx context.Context, name string) (bool, error) {
	_, err := s.client.GetImage(ctx, name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Image is an entry of the image store.
type Image struct {
	Name   string
	Digest string
	// Size is that of the compressed content, in bytes.
	Size int64
}

// List returns all images.
func (s *Images) List(ctx context.Context) ([]Image, error) {
	found, err := s.client.ListImages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := make([]Image, 0, len(found))
	for _, img := range found {
		size, err := img.Size(ctx)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("size of image %s: %w", img.Name(), err)
		}
		images = append(images, Image{Name: img.Name(), Digest: img.Target().Digest.String(), Size: size})
	}
	return images, nil
}
