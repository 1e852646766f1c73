// SPDX-License-Identifier: Apache-2.0

// Command images makes the container images that upstream's conformance tests
// use, without a registry: from programs that were built before, and from a
// root file system of Debian packages.
//
//	images -programs DIR -base debian.tar -sources DIR -out images.tar
//
// All of them are in one archive, as `docker save` writes it, under the names
// that the tests ask for.
package main

import (
	"flag"
	"fmt"
	"log"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("images: ")
	var b builder
	flag.StringVar(&b.programs, "programs", "", "directory of the programs")
	flag.StringVar(&b.base, "base", "", "archive of a Debian root file system")
	flag.StringVar(&b.sources, "sources", "", "directory test/images of the Kubernetes module")
	out := flag.String("out", "", "archive to write")
	flag.Parse()
	if err := b.run(*out); err != nil {
		log.Fatal(err)
	}
}

// builder makes layers and images. Its first error stays.
type builder struct {
	programs, base, sources string
	err                     error
}

func (b *builder) run(out string) error {
	recipes := b.recipes()
	if b.err != nil {
		return b.err
	}
	images := map[name.Tag]v1.Image{}
	for _, r := range recipes {
		full := imageutils.GetE2EImage(r.image)
		tag, err := name.NewTag(full, name.StrictValidation)
		if err != nil {
			return err
		}
		if images[tag], err = r.build(); err != nil {
			return fmt.Errorf("image %s: %w", full, err)
		}
	}
	return tarball.MultiWriteToFile(out, images)
}

// recipe is what one image is made of.
type recipe struct {
	image  imageutils.ImageID
	config v1.Config
	layers []v1.Layer
}

func (r recipe) build() (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, r.layers...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture = r.config, "linux", runtime.GOARCH
	return mutate.ConfigFile(img, file)
}
