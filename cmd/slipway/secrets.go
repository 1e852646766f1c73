// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func secretsCommand(cfg *node.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Change the key that Secrets are encrypted with",
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return node.RequireRoot("secrets")
		},
	}
	cmd.AddCommand(secretsRotateCommand(cfg))
	return cmd
}

func secretsRotateCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Encrypt all Secrets in etcd with a new key, while the cluster runs",
		Long: `Encrypt all Secrets in etcd with a new key, while the cluster runs: make the key,
let the API server write with it, write all Secrets, and forget the old key when
nothing in etcd needs it. That takes a bit more than a minute. If it ends before,
however that is, Secrets can be read; the next call goes on where it stopped.
Snapshots from before keep the key that they need.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps := node.NewSteps(node.PrintTo(cmd.OutOrStdout()))
			return node.RotateKey(cmd.Context(), *cfg, steps)
		},
	}
}
