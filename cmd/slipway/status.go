// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func statusCommand(cfg *node.Config) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell the health of each component, and what to do about it",
		Long: `Tell the health of each component of the node on this machine in words. The
exit status is 0 when all of them do their work.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.RequireRoot("status"); err != nil {
				return err
			}
			return printChecks(cmd.OutOrStdout(), node.Status(cmd.Context(), *cfg))
		},
	}
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check that this machine has what a node needs",
		Long: `Check that this machine has what a node needs: root, programs, cgroups and
kernel features. It changes nothing. The exit status is 0 when nothing is
missing.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printChecks(cmd.OutOrStdout(), node.CheckMachine())
		},
	}
}

// printChecks prints a line for each check, and what to do below those that
// are not OK.
func printChecks(out io.Writer, checks []node.Check) error {
	failed := false
	for _, c := range checks {
		mark := "ok  "
		if !c.OK {
			mark, failed = "FAIL", true
		}
		fmt.Fprintf(out, "%s  %-22s %s\n", mark, c.Name, c.Says)
		if !c.OK && c.Do != "" {
			fmt.Fprintf(out, "      %-22s -> %s\n", "", c.Do)
		}
	}
	if failed {
		return errSilent
	}
	return nil
}
