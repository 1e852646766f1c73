// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"slipway.dev/slipway/internal/image"
)

//go:embed guest/*.sh guest/lab.service
var guestFiles embed.FS

// appImage is the image that the guests' pods are made of.
const appImage = "slipway.dev/lab:v1"

// payload makes the disk with all that guests run: slipway, the tests, the
// lab's own commands and scripts. It is made once in each run of the lab.
func (l *lab) payload(arch string) error {
	if l.made[arch] {
		return nil
	}
	dir := filepath.Join(l.dir, "payload-"+arch)
	if err := l.build(arch, filepath.Join(dir, "bin")); err != nil {
		return err
	}
	if err := writeAll(guestFiles, dir); err != nil {
		return err
	}
	if err := writeImage(filepath.Join(dir, "image.tar"), filepath.Join(dir, "bin/app")); err != nil {
		return err
	}
	disk := dir + ".img"
	l.made[arch] = true
	return replaced(disk, func(disk string) error { return makeDisk(disk, dir, "1G") })
}

// build puts the programs into a directory. What `make build` has made for
// this architecture is copied, the rest is built here.
func (l *lab) build(arch, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0", "GOARCH=" + arch}
	for _, args := range [][]string{
		{"build", "-buildvcs=false", "-o", filepath.Join(dir, "app"), "./test/e2e/app"},
		{"build", "-buildvcs=false", "-o", filepath.Join(dir, "inside"), "./test/kernels/inside"},
		{"test", "-c", "-o", filepath.Join(dir, "bpf.test"), "./bpf"},
	} {
		if err := (command{name: "go", args: args, env: env}).run(); err != nil {
			return err
		}
	}
	err := command{name: "cp", args: []string{l.slipway[arch], filepath.Join(dir, "slipway")}}.run()
	if arch != "amd64" && err != nil {
		return nil // only the tests run there
	}
	return err
}

func writeAll(files fs.FS, dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, "guest")); err != nil {
		return err
	}
	return os.CopyFS(dir, files)
}

// writeImage makes the container image of a program.
func writeImage(path, app string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	spec := image.Spec{Name: appImage, Files: []image.File{{Path: "/app", Mode: 0o755, Source: app}}, Entrypoint: []string{"/app"}}
	return errors.Join(image.Write(out, spec), out.Close())
}
