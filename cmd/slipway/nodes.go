// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func nodesCommand(cfg *node.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List, start and stop the further nodes on this machine",
		Long: `List, start and stop the nodes that "slipway up --nodes" has made on this
machine, for example to see what a cluster does when it loses one.`,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return node.RequireRoot("nodes")
		},
	}
	cmd.AddCommand(nodesListCommand(cfg), nodesStartCommand(cfg), nodesStopCommand(cfg))
	return cmd
}

func nodesListCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the further nodes on this machine",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := node.LocalNodes(*cfg)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "NAME\tADDRESSES\tPROCESS")
			for _, n := range all {
				pid := "stopped"
				if n.PID != 0 {
					pid = fmt.Sprint(n.PID)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", n.Name, strings.Join(n.Addresses, ","), pid)
			}
			return table.Flush()
		},
	}
}

func nodesStartCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "start NAME",
		Short:   "Start a node that was stopped or killed",
		Example: "  slipway nodes start worker-2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			full, err := cfg.Complete()
			if err != nil {
				return err
			}
			return node.StartLocalNode(cmd.Context(), full, args[0], node.NewSteps(node.PrintTo(cmd.OutOrStdout())))
		},
	}
}

func nodesStopCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a node as if its machine were turned off",
		Long: `Stop a node as if its machine were turned off: all its processes end, pods
included; its data stays. The cluster finds out by itself, after 40 seconds.`,
		Example: "  slipway nodes stop worker-2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			steps := node.NewSteps(node.PrintTo(cmd.OutOrStdout()))
			return steps.Do("node "+args[0]+" stopped", func() error { return node.StopLocalNode(*cfg, args[0]) })
		},
	}
}
