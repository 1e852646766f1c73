// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"slipway.dev/slipway/node"
	"slipway.dev/slipway/node/token"
)

func tokenCommand(cfg *node.Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and delete the tokens by which machines join",
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return node.RequireRoot("token")
		},
	}
	cmd.AddCommand(tokenCreateCommand(cfg), tokenListCommand(cfg), tokenDeleteCommand(cfg))
	return cmd
}

func tokenCreateCommand(cfg *node.Config) *cobra.Command {
	opts := token.Options{TTL: 24 * time.Hour}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print the command by which a machine joins",
		Long: `Make a token and print the command by which a machine joins. Any number of
machines may join with it until it expires. Keep it like a password.`,
		Example: `  # For a day
  slipway token create

  # For an hour, with a word for those who list tokens
  slipway token create --ttl 1h --description "rack 7"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, server, err := node.CreateToken(cmd.Context(), *cfg, opts)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "slipway join %s --token %s --detach\n", server, made)
			return err
		},
	}
	cmd.Flags().DurationVar(&opts.TTL, "ttl", opts.TTL, "for how long machines may join with it, 0 for ever")
	cmd.Flags().StringVar(&opts.Description, "description", "", "what it is for")
	return cmd
}

func tokenListCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens, without their secrets",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := node.AdminClient(*cfg)
			if err != nil {
				return err
			}
			all, err := token.List(cmd.Context(), client)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "ID\tEXPIRES\tDESCRIPTION")
			for _, t := range all {
				fmt.Fprintf(table, "%s\t%s\t%s\n", t.ID, expires(t.Expires), t.Description)
			}
			return table.Flush()
		},
	}
}

func expires(at time.Time) string {
	switch left := time.Until(at); {
	case at.IsZero():
		return "never"
	case left <= 0:
		return "expired"
	default:
		return "in " + duration.HumanDuration(left)
	}
}

func tokenDeleteCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID",
		Short:   "Make a token useless; nodes that have joined with it stay",
		Example: "  slipway token delete abcdef",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := node.AdminClient(*cfg)
			if err != nil {
				return err
			}
			if err := token.Delete(cmd.Context(), client, args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "deleted token %s\n", args[0])
			return err
		},
	}
}
