// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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
		Short: "Import image archives, OCI layout or `docker save`, on all nodes of this machine",
		Example: `  # An archive in a file
  slipway images load app.tar

  # From another tool
  docker save example.com/app:v1 | slipway images load -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sockets, err := runtimeSockets(*cfg)
			if err != nil {
				return err
			}
			for _, path := range args {
				if err := loadImage(cmd, sockets, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// runtimeSockets are those of all nodes on this machine.
func runtimeSockets(cfg node.Config) ([]string, error) {
	further, err := node.LocalNodes(cfg)
	if err != nil {
		return nil, err
	}
	sockets := []string{cfg.ContainerdSocket()}
	for _, n := range further {
		if n.Socket != "" {
			sockets = append(sockets, n.Socket)
		}
	}
	return sockets, nil
}

// loadImage imports an archive on each node of this machine.
func loadImage(cmd *cobra.Command, sockets []string, path string) error {
	file, err := openArchive(cmd, path, len(sockets))
	if err != nil {
		return err
	}
	defer file.Close()
	for i, socket := range sockets {
		if _, err := file.Seek(0, io.SeekStart); i > 0 && err != nil {
			return fmt.Errorf("read image archive again: %w", err)
		}
		names, err := loadInto(cmd.Context(), socket, file)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, name := range names {
			if i == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "loaded", name)
			}
		}
	}
	return nil
}

func loadInto(ctx context.Context, socket string, archive io.Reader) ([]string, error) {
	store, err := containerd.OpenImages(socket)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return store.Load(ctx, archive)
}

// openArchive opens an archive that is to be read several times. What comes on
// standard input is then kept in a file without a name.
func openArchive(cmd *cobra.Command, path string, times int) (*os.File, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open image archive: %w", err)
		}
		return file, nil
	}
	if stdin, ok := cmd.InOrStdin().(*os.File); ok && times == 1 {
		return stdin, nil
	}
	file, err := os.CreateTemp("", "image-*.tar")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err == nil {
		_, err = io.Copy(file, cmd.InOrStdin())
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("keep image archive: %w", err)
	}
	return file, nil
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
