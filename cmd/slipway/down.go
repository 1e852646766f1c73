// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func downCommand(cfg *node.Config) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and remove everything it made on this machine",
		Long: `Stop the cluster with all its pods and remove every interface, route, mount,
cgroup, pinned BPF object and process of it. The data (API objects, volumes,
images) stays for the next "slipway up", unless --purge is given.`,
		Example: `  # Stop, keep the data
  slipway down

  # Stop and forget everything, volumes included
  slipway down --purge`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps := node.NewSteps(node.PrintTo(cmd.OutOrStdout()))
			return node.Down(cmd.Context(), *cfg, node.DownOptions{Purge: purge}, steps)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "also delete all data: API objects, volumes, images, certificates")
	return cmd
}
