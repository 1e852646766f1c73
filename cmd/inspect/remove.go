// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/proxy/takeover"
)

func removeCommand(cfg Config) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Take the data path off this node, for another proxy to serve",
		Long: `Take the data path off this node: all BPF programs and tables, those of the
service proxy and those of the pod network. Another proxy serves from then on; the
pods stay connected by the node's routes, without protection against spoofed
addresses. Connections go on: those of pods and the node carry the addresses of
backends, and those from other hosts are handed over to netfilter.

The order is: start kube-proxy and wait until it has written its rules, stop
` + cfg.Program + `, then run this.`,
		Example: "  " + cfg.Program + " proxy remove",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				if err := cfg.mayRemove(cmd); err != nil {
					return err
				}
			}
			handed, err := cfg.handBack()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the data path is removed; netfilter has %d connections from other hosts, and could not take %d\n",
				handed.Over, handed.Left)
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it although the agent runs, or no other proxy has rules on this node")
	return cmd
}

// mayRemove tells what has to be done before.
func (c Config) mayRemove(cmd *cobra.Command) error {
	running, err := process.FindOnNetwork(isAgent)
	if err != nil {
		return err
	}
	if len(running) > 0 {
		return fmt.Errorf("%s still runs on this node (process %d): stop it first, or use --force", c.Program, running[0].PID)
	}
	found, err := takeover.Find(cmd.Context())
	if err != nil {
		return err
	}
	if len(found.List()) == 0 {
		return errors.New("kube-proxy has no rules on this node, so that nobody would serve: start it first, or use --force")
	}
	return nil
}

// isAgent tells whether a command line is that of a process that runs the data plane.
func isAgent(argv []string) bool {
	switch filepath.Base(argv[0]) {
	case "slipway":
		return slices.Contains(argv[1:], "up") || slices.Contains(argv[1:], "join")
	case "slipway-agent":
		return !slices.Contains(argv[1:], "proxy") && !slices.Contains(argv[1:], "explain")
	}
	return false
}

func (c Config) handBack() (takeover.Handed, error) {
	from, err := bpf.OpenHandover(c.Pins())
	if errors.Is(err, bpf.ErrOtherLayout) {
		return takeover.Handed{}, fmt.Errorf("%w; use the %s that has run here", err, c.Program)
	}
	if err != nil {
		return takeover.Handed{}, err
	}
	defer from.Close()
	handed, err := takeover.HandBack(from)
	if err != nil {
		return handed, err
	}
	return handed, bpf.Remove(c.Pins())
}
