// SPDX-License-Identifier: Apache-2.0

// Command slipway runs and operates a Slipway cluster: one binary that is the
// cluster, its data plane and its kubectl.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/cmd/inspect"
	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/node"
	"slipway.dev/slipway/node/containerd"
	"slipway.dev/slipway/node/local"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, errSilent) {
			fmt.Fprintln(os.Stderr, "slipway:", err)
		}
		os.Exit(1)
	}
}

// errSilent ends the program with status 1 without another line.
var errSilent = errors.New("failed")

// run dispatches. kubectl and containerd parse their own arguments, and the
// latter also its own signals.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "kubectl":
			return runKubectl(args[1:])
		case "containerd":
			return containerd.Serve(context.Background(), args[1:])
		case local.Command:
			return local.Main(strings.Join(args[1:], " "))
		}
	}
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		return withHelp(root, err)
	}
	return err
}

func rootCommand() *cobra.Command {
	cfg := node.Defaults()
	root := &cobra.Command{
		Use:   "slipway",
		Short: "A Kubernetes data plane, and a whole cluster, in one binary",
		Long: `Slipway is a Kubernetes data plane in one binary: service load balancing in
eBPF, a pod network, persistent volumes and ingress, with a compact control
plane beside it so that one command gives a whole cluster.`,
		Example: `  # A cluster on this machine, in the background
  slipway up --detach

  # Look at it
  slipway status
  slipway kubectl get nodes,pods -A

  # Stop it, and forget all its data
  slipway down --purge`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		Version:           version.Version + " (Kubernetes " + version.Kubernetes + ")",
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "directory for all that must survive a reboot")
	root.PersistentFlags().StringVar(&cfg.RunDir, "run-dir", cfg.RunDir, "directory for sockets and running state")
	root.PersistentFlags().StringVar(&cfg.Kubeconfig, "kubeconfig", cfg.Kubeconfig, "where the administrator's kubeconfig is")
	// Kubernetes' packages have a flag of that name, of another type.
	root.Flags().Bool("version", false, "print the version")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return withHelp(cmd, err) })
	root.AddCommand(upCommand(&cfg), joinCommand(&cfg), tokenCommand(&cfg), nodesCommand(&cfg), snapshotCommand(&cfg), secretsCommand(&cfg), downCommand(&cfg), statusCommand(&cfg), checkCommand(&cfg),
		imagesCommand(&cfg), kubectlCommand(), versionCommand())
	root.AddCommand(inspect.Commands(inspect.Config{
		Program: "slipway", Pins: func() string { return cfg.PinDir() },
		Client: func() (kubernetes.Interface, error) { return node.ReaderClient(cfg) },
	})...)
	return root
}

// withHelp tells where to read what is allowed.
func withHelp(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return withHelp(cmd, fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of Slipway and of the Kubernetes in it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "slipway %s\nkubernetes %s\n", version.Version, version.Kubernetes)
			return err
		},
	}
}
