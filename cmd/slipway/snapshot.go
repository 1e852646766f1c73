// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/apiserver/snapshot"
	"slipway.dev/slipway/node"
)

func snapshotCommand(cfg *node.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the cluster to a file, and bring it back from one",
		Long: `Save the cluster to a file, and bring it back from one. A snapshot holds all API
objects and the cluster's keys, and is as secret as these. It does not hold the
data of volumes, nor images.`,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return node.RequireRoot("snapshot")
		},
	}
	cmd.AddCommand(snapshotSaveCommand(cfg), snapshotListCommand(cfg), snapshotRestoreCommand(cfg))
	return cmd
}

func snapshotSaveCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "save [FILE]",
		Short: "Save the running cluster to a file",
		Example: `  # Beside those that are made by schedule
  slipway snapshot save

  # Somewhere else
  slipway snapshot save /backup/cluster.tar.gz

  # In another directory, by a name with the time
  slipway snapshot save /backup/`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				absolute, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				path = absolute
				if strings.HasSuffix(args[0], "/") {
					path += "/"
				}
			}
			path, m, err := node.SaveSnapshot(cmd.Context(), *cfg, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "saved revision %d with %d keys to %s\n", m.Revision, m.Keys, path)
			return err
		},
	}
}

func snapshotListCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the snapshots in the data directory",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := snapshot.List(cfg.SnapshotDir())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "TIME\tREVISION\tSIZE\tVERSION\tFILE")
			for _, s := range all {
				if s.Err != nil {
					fmt.Fprintf(table, "%s\t-\t%.1f MB\tdamaged\t%s\n", s.Time.UTC().Format(time.RFC3339), float64(s.Size)/1e6, s.Path)
					continue
				}
				fmt.Fprintf(table, "%s\t%d\t%.1f MB\t%s\t%s\n", s.Time.Format(time.RFC3339), s.Revision, float64(s.Size)/1e6, s.Slipway, s.Path)
			}
			return table.Flush()
		},
	}
}

func snapshotRestoreCommand(cfg *node.Config) *cobra.Command {
	var opts node.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring the cluster back as it was; the server must not run",
		Long: `Bring the cluster back as it was when the snapshot was taken. The server must not
run, and there must be no cluster in the data directory; with --force the one that
is there is kept beside the new one. Pods start again with the next "slipway up";
nodes that had joined go on with their certificates.`,
		Example: `  # On an empty machine
  slipway snapshot restore /backup/cluster.tar.gz
  slipway up --detach

  # Back to an earlier state
  slipway down
  slipway snapshot restore --force /backup/cluster.tar.gz
  slipway up --detach`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kept, err := node.RestoreSnapshot(*cfg, args[0], opts)
			for _, dir := range kept {
				fmt.Fprintln(cmd.OutOrStdout(), "kept", dir)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "restored; start the cluster with `slipway up`")
			return err
		},
	}
	cmd.Flags().BoolVar(&opts.Force, "force", false, "put it in the place of the cluster that is there, which is kept beside")
	return cmd
}
