// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/node"
)

// reportFlag names the file descriptor that a node in the background reports
// its progress on.
const reportFlag = "report-fd"

func upCommand(cfg *node.Config) *cobra.Command {
	var detach bool
	var reportFD int
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring up a cluster on this machine",
		Long: `Bring up a cluster on this machine: API server, etcd, controllers, scheduler,
kubelet, DNS and the data plane in one process, and containerd beside it.

Without --detach it stays in the foreground once the node is Ready. When the
process ends, however it ends, pods keep running with their network, Services
and volumes; the next "slipway up" adopts them.`,
		Example: `  # In the background; returns when the node is Ready
  slipway up --detach

  # In the foreground, the API on another port
  slipway up --api-port 7443

  # IPv4 only, other ranges
  slipway up --pod-cidr 172.20.0.0/16 --service-cidr 172.21.0.0/16`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.RequireRoot("up"); err != nil {
				return err
			}
			full, err := cfg.Complete()
			if err != nil {
				return err
			}
			switch {
			case reportFD > 0:
				return upReporting(cmd.Context(), full, os.NewFile(uintptr(reportFD), "report"))
			case detach:
				return upDetached(cmd, full)
			default:
				return upForeground(cmd, full)
			}
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&detach, "detach", "d", false, "run in the background and return when the node is Ready")
	flags.IntVar(&reportFD, reportFlag, 0, "file descriptor to report progress on")
	_ = flags.MarkHidden(reportFlag)
	flags.StringVar(&cfg.NodeName, "node-name", "", "name of the node (default: the host name)")
	flags.Var(addrs(&cfg.NodeIPs), "node-ip", "addresses of the node, one or one of each family (default: those of the default route's interface)")
	flags.Uint16Var(&cfg.APIPort, "api-port", cfg.APIPort, "port of the API server")
	flags.Var(prefixes(&cfg.PodCIDRs), "pod-cidr", "ranges of pod addresses, one or one of each family")
	flags.Var(prefixes(&cfg.ServiceCIDRs), "service-cidr", "ranges of Service addresses, one or one of each family")
	flags.StringVar(&cfg.ClusterDomain, "cluster-domain", cfg.ClusterDomain, "DNS suffix of the cluster")
	flags.Uint16Var(&cfg.HTTPPort, "ingress-http-port", cfg.HTTPPort, "port of the ingress for HTTP")
	flags.Uint16Var(&cfg.HTTPSPort, "ingress-https-port", cfg.HTTPSPort, "port of the ingress for HTTPS")
	flags.BoolVarP(&cfg.Verbose, "verbose", "v", false, "log what the Kubernetes components do, not only what goes wrong")
	return cmd
}

// upForeground runs the node until the user stops it.
func upForeground(cmd *cobra.Command, cfg node.Config) error {
	out := cmd.OutOrStdout()
	print := node.PrintTo(out)
	steps := node.NewSteps(func(p node.Progress) {
		print(p)
		if p.Ready {
			printReady(out, cfg, p)
			fmt.Fprintf(out, "\nRunning in the foreground, logging to %s. Ctrl-C stops this process; pods go on\nuntil `slipway down`.\n", cfg.LogFile())
		}
	})
	if err := node.CheckStart(cfg, steps); err != nil {
		return alreadyUp(cmd, err)
	}
	log, err := openLog(cfg)
	if err != nil {
		return err
	}
	defer log.Close()
	return alreadyUp(cmd, node.Up(cmd.Context(), cfg, steps, log.logger))
}

// alreadyUp turns the error of a second `up` into what it is for the user:
// the cluster is up.
func alreadyUp(cmd *cobra.Command, err error) error {
	var running *node.RunningError
	if !errors.As(err, &running) {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "slipway is up already, as process %d; see `slipway status`\n", running.PID)
	return nil
}

// upReporting is the process in the background; the one that the user sees has
// checked that it can start.
func upReporting(ctx context.Context, cfg node.Config, report *os.File) error {
	steps := node.NewSteps(node.EncodeTo(report))
	log, err := openLog(cfg)
	if err == nil {
		defer log.Close()
		err = node.Up(ctx, cfg, steps, log.logger)
	}
	if err != nil {
		steps.Show(node.Progress{Error: err.Error()})
	}
	return err
}

// upDetached starts the process in the background, shows its steps, and
// returns when the node is Ready or the start has failed.
func upDetached(cmd *cobra.Command, cfg node.Config) error {
	if err := node.CheckStart(cfg, node.NewSteps(node.PrintTo(cmd.OutOrStdout()))); err != nil {
		return alreadyUp(cmd, err)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.LogFile()), 0o711); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	crash, err := os.OpenFile(cfg.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer crash.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make progress pipe: %w", err)
	}
	defer reader.Close()
	child := exec.Command(cfg.Executable, append([]string{"up", fmt.Sprintf("--%s=3", reportFlag)}, sameFlags(cmd)...)...)
	child.Dir = "/"
	child.Stdout, child.Stderr = crash, crash
	child.ExtraFiles = []*os.File{writer}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nothing that our parent has left open, a lock of a script for example,
	// goes to a process that outlives it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	err = child.Start()
	writer.Close()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	return follow(cmd.OutOrStdout(), cfg, child, reader)
}

// sameFlags passes on the flags that the user gave.
func sameFlags(cmd *cobra.Command) []string {
	var args []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "detach" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return args
}

// follow shows what the process in the background reports.
func follow(out io.Writer, cfg node.Config, child *exec.Cmd, reports io.Reader) error {
	print := node.PrintTo(out)
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p node.Progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("read progress: %w", err)
		}
		print(p)
		switch {
		case p.Error != "":
			_ = child.Wait()
			return errors.New(p.Error)
		case p.Ready:
			printReady(out, cfg, p)
			return nil
		}
	}
	err := child.Wait()
	return fmt.Errorf("the process in the background ended before the node was Ready (%v), see %s", err, cfg.LogFile())
}

func printReady(out io.Writer, cfg node.Config, p node.Progress) {
	fmt.Fprintf(out, "\nNode %s is Ready after %.1f s.\n\n", cfg.NodeName, p.Took.Seconds())
	fmt.Fprintf(out, "Next:\n  slipway kubectl get nodes,pods -A\n  export KUBECONFIG=%s   # for any other kubectl or Helm\n  slipway status\n", cfg.Kubeconfig)
}
