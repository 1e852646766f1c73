// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func joinCommand(cfg *node.Config) *cobra.Command {
	var how startFlags
	var token string
	cmd := &cobra.Command{
		Use:   "join [SERVER]",
		Short: "Make this machine a node of an existing cluster",
		Long: `Make this machine a node of an existing cluster: kubelet, container runtime and
data plane. SERVER is the address of one of its servers; the others are found
from there, and the node goes on with any of them.

The token comes from "slipway token create" on a server. It holds the hash of
the cluster's certificate authority, so that the machine gives its token to no
other cluster. It is needed once: a node that has joined starts again with
"slipway join" alone.`,
		Example: `  # On a server
  slipway token create

  # On the machine that shall join, as printed by it
  slipway join 192.0.2.10 --token TOKEN --detach

  # After a reboot
  slipway join --detach`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := node.RequireRoot("join"); err != nil {
				return err
			}
			full, err := cfg.Complete()
			if err != nil {
				return err
			}
			join := node.JoinConfig{Config: full, Token: token}
			if len(args) > 0 {
				join.Server = args[0]
			}
			return how.start(cmd, starter{
				cfg: full,
				check: func(ctx context.Context, steps *node.Steps) error {
					return node.CheckJoin(ctx, join, steps)
				},
				run: func(ctx context.Context, steps *node.Steps, log *slog.Logger) error {
					return node.Join(ctx, join, steps, log)
				},
				next: nextOnWorker,
			})
		},
	}
	flags := cmd.Flags()
	how.register(flags)
	nodeFlags(flags, cfg)
	flags.StringVar(&token, "token", "", "the right to join, as printed by `slipway token create` on a server")
	flags.Uint16Var(&cfg.APIPort, "api-port", cfg.APIPort, "port on loopback at which this node's components reach the servers")
	return cmd
}

func nextOnWorker(out io.Writer, _ node.Config) {
	fmt.Fprint(out, "Next:\n  slipway status                # on this machine\n  slipway kubectl get nodes     # on a server\n")
}
