// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
	"slipway.dev/slipway/node/containerd"
)

func imagesCommand(cfg *node.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "images",
		Short: "Load and list the container images of this node",
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return node.RequireRoot("images")
		},
	}
	cmd.AddCommand(imagesLoadCommand(cfg), imagesListCommand(cfg))
	return cmd
}

func imagesLoadCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE...",
		Short: "Import image archives, OCI layout or `docker save`, so that pods can use them",
		Example: `  # An archive in a file
  slipway images load app.tar

  # From another tool
  docker save example.com/app:v1 | slipway images load -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := containerd.OpenImages(cfg.ContainerdSocket())
			if err != nil {
				return err
			}
			defer store.Close()
			for _, path := range args {
				if err := loadImage(cmd, store, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func loadImage(cmd *cobra.Command, store *containerd.Images, path string) error {
	var archive io.Reader = cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("open image archive: %w", err)
		}
		defer file.Close()
		archive = file
	}
	names, err := store.Load(cmd.Context(), archive)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range names {
		fmt.Fprintln(cmd.OutOrStdout(), "loaded", name)
	}
	return nil
}

func imagesListCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images of this node",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := containerd.OpenImages(cfg.ContainerdSocket())
			if err != nil {
				return err
			}
			defer store.Close()
			images, err := store.List(cmd.Context())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "IMAGE\tDIGEST\tSIZE")
			for _, img := range images {
				fmt.Fprintf(table, "%s\t%.19s\t%.1f MB\n", img.Name, img.Digest, float64(img.Size)/1e6)
			}
			return table.Flush()
		},
	}
}
