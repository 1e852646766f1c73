// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	"slipway.dev/slipway/node"
)

// kubectlCommand only shows up in the help; run hands over to kubectl before
// any flag is parsed.
func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl",
		Short:              "Run kubectl against this cluster",
		DisableFlagParsing: true,
		RunE:               func(_ *cobra.Command, args []string) error { return runKubectl(args) },
	}
}

// runKubectl is kubectl. Without a kubeconfig of the user's own choice it
// talks to the cluster of this machine.
func runKubectl(args []string) error {
	if os.Getenv("KUBECONFIG") == "" {
		kubeconfig := node.Defaults().Kubeconfig
		if _, err := os.Stat(kubeconfig); !errors.Is(err, os.ErrNotExist) {
			if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
				return err
			}
		}
	}
	os.Args = append([]string{"kubectl"}, args...)
	command := cmd.NewDefaultKubectlCommand()
	command.SetArgs(args)
	if err := cli.RunNoErrOutput(command); err != nil {
		util.CheckErr(err)
	}
	return nil
}
