// SPDX-License-Identifier: Apache-2.0

// Command mkimage puts the demo's program into a container image archive.
package main

import (
	"flag"
	"fmt"
	"os"

	"slipway.dev/slipway/internal/image"
)

func main() {
	app := flag.String("app", "", "the program")
	out := flag.String("out", "", "the archive to write")
	flag.Parse()
	if err := run(*app, *out); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(app, out string) error {
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	err = image.Write(file, image.Spec{
		Name:         "slipway.dev/demo:v1",
		Files:        []image.File{{Path: "/app", Mode: 0o755, Source: app}},
		Entrypoint:   []string{"/app"},
		User:         "65532:65532",
		ExposedPorts: []string{"8080/tcp"},
	})
	if err != nil {
		return err
	}
	return file.Close()
}
