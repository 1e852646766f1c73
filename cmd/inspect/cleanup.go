// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/proxy/takeover"
)

func cleanupCommand(cfg Config) *cobra.Command {
	var dryRun, force bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what kube-proxy has left on this node",
		Long: `Remove the rules that kube-proxy has left on this node: its chains and rules of
iptables, its tables of nftables, and what its mode ipvs has made. Rules of the
kubelet, of CNI plugins and of anybody else stay, and so do connections that
netfilter translates already.

kube-proxy must not run any more, for it would write its rules again, and the data
path must serve, for without both there are no Services.`,
		Example: fmt.Sprintf("  # What would be removed\n  %[1]s proxy cleanup --dry-run\n\n  %[1]s proxy cleanup", cfg.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := takeover.Find(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			printLeftovers(out, found, dryRun)
			if dryRun || len(found.List()) == 0 {
				return nil
			}
			if !force {
				if err := cfg.mayCleanUp(); err != nil {
					return err
				}
			}
			err = found.Remove(cmd.Context(), force)
			if errors.Is(err, takeover.ErrTranslates) {
				return fmt.Errorf("%w. Start the pod network of %s first, or break them with --force", err, cfg.Program)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only list what would be removed")
	cmd.Flags().BoolVar(&force, "force", false, "remove it although kube-proxy runs, the data path does not serve, or connections break")
	return cmd
}

func printLeftovers(out io.Writer, found *takeover.Leftovers, dryRun bool) {
	verb := "removing"
	if dryRun {
		verb = "would remove"
	}
	for _, line := range found.List() {
		fmt.Fprintf(out, "%s %s\n", verb, line)
	}
	for _, line := range found.Kept() {
		fmt.Fprintf(out, "keeping %s: rules that are not kube-proxy's lead to it\n", line)
	}
	if len(found.List()) == 0 {
		fmt.Fprintln(out, "nothing of kube-proxy is left on this node")
	}
}

// mayCleanUp tells why the node would be left without Services.
func (c Config) mayCleanUp() error {
	running, err := takeover.KubeProxies()
	if err != nil {
		return err
	}
	if len(running) > 0 {
		return fmt.Errorf("kube-proxy still runs on this node (process %d): take it off first, for example by"+
			" `kubectl -n kube-system delete daemonset kube-proxy`, or use --force", running[0].PID)
	}
	v, err := c.view()
	if err != nil {
		return fmt.Errorf("%w; use --force to remove kube-proxy's rules all the same", err)
	}
	defer v.Close()
	frontends, err := v.Frontends()
	if err != nil {
		return err
	}
	summary, err := v.Summary()
	if err != nil {
		return err
	}
	if summary.Sock == 0 || len(frontends) == 0 {
		return fmt.Errorf("the data path of this node serves no Services (%d frontends, %d socket hooks): start %s first, or use --force",
			len(frontends), summary.Sock, c.Program)
	}
	return nil
}
