// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/image"
)

const appImage = "slipway.dev/e2e:v1"

// buildApp builds the application and returns its path.
func buildApp(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the application: %v\n%s", err, out)
	}
	return path
}

// loadImage makes the application's image and gives it to the node.
func (c *cluster) loadImage(t testing.TB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	archive, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	err = image.Write(archive, image.Spec{
		Name: appImage, Files: []image.File{{Path: "/app", Mode: 0o755, Source: c.app}}, Entrypoint: []string{"/app"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, time.Minute, "images", "load", path); r.status != 0 || !strings.Contains(r.stdout, appImage) {
		t.Fatalf("images load: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	if r := c.run(t, time.Minute, "images", "list"); r.status != 0 || !strings.Contains(r.stdout, appImage) {
		t.Errorf("images list: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}
