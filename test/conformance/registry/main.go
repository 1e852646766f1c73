// SPDX-License-Identifier: Apache-2.0

// Command registry serves the images of an archive as a container registry
// does, for tests that pull although a node has the image.
//
//	registry -listen 172.29.0.1:0 -archive images.tar -blobs DIR
//
// It prints its address when it serves all of them, and goes on until it
// is killed.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("registry: ")
	listen := flag.String("listen", "", "address and port")
	archive := flag.String("archive", "", "archive of images, as `docker save` writes it")
	blobs := flag.String("blobs", "", "directory to keep layers in")
	flag.Parse()
	if err := serve(*listen, *archive, *blobs); err != nil {
		log.Fatal(err)
	}
}

func serve(listen, archive, blobs string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)))
	ended := make(chan error, 1)
	go func() { ended <- http.Serve(listener, handler) }()
	if err := fill(listener.Addr().String(), archive); err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return <-ended
}

// fill pushes each image of the archive under the name that it has there,
// with the address in place of the registry's.
func fill(address, archive string) error {
	open := func() (io.ReadCloser, error) { return os.Open(archive) }
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for _, image := range manifest {
		for _, known := range image.RepoTags {
			if err := push(address, known, open); err != nil {
				return fmt.Errorf("%s: image %s: %w", archive, known, err)
			}
		}
	}
	return nil
}

func push(address, known string, open tarball.Opener) error {
	tag, err := name.NewTag(known)
	if err != nil {
		return err
	}
	img, err := tarball.Image(open, &tag)
	if err != nil {
		return err
	}
	to, err := name.NewTag(address+"/"+tag.RepositoryStr()+":"+tag.TagStr(), name.Insecure)
	if err != nil {
		return err
	}
	return remote.Write(to, img)
}
