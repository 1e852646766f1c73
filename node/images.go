// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"

	"slipway.dev/slipway/internal/image"
	"slipway.dev/slipway/internal/payload"
	"slipway.dev/slipway/node/containerd"
)

// loadOwnImages makes the images that come with this program and imports
// those that the store does not have.
func loadOwnImages(ctx context.Context, cfg Config) error {
	store, err := containerd.OpenImages(cfg.ContainerdSocket())
	if err != nil {
		return err
	}
	defer store.Close()
	if have, err := store.Has(ctx, cfg.sandboxImage()); have || err != nil {
		return err
	}
	pause, err := payload.Read("pause")
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := image.Write(&archive, image.Spec{
		Name:       cfg.sandboxImage(),
		Files:      []image.File{{Path: "/pause", Mode: 0o755, Bytes: pause}},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
	}); err != nil {
		return err
	}
	_, err = store.Load(ctx, &archive)
	return err
}
