// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"slipway.dev/slipway/node"
)

func upCommand(cfg *node.Config) *cobra.Command {
	var how startFlags
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

  # Three nodes on this machine, to try things
  slipway up --detach --nodes 3

  # In the foreground, the API on another port
  slipway up --api-port 7443

  # One of several servers on an etcd cluster
  slipway up --etcd-endpoints https://10.0.0.1:2379,https://10.0.0.2:2379 \
    --etcd-cafile ca.crt --etcd-certfile etcd.crt --etcd-keyfile etcd.key --cluster-token-file token

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
			return how.start(cmd, starter{
				cfg:   full,
				check: func(_ context.Context, steps *node.Steps) error { return node.CheckStart(full, steps) },
				run: func(ctx context.Context, steps *node.Steps, log *slog.Logger) error {
					return node.Up(ctx, full, steps, log)
				},
				next: nextOnServer,
			})
		},
	}
	flags := cmd.Flags()
	how.register(flags)
	nodeFlags(flags, cfg)
	flags.Uint16Var(&cfg.APIPort, "api-port", cfg.APIPort, "port of the API server")
	flags.Var(prefixes(&cfg.PodCIDRs), "pod-cidr", "ranges of pod addresses, one or one of each family")
	flags.Var(prefixes(&cfg.ServiceCIDRs), "service-cidr", "ranges of Service addresses, one or one of each family")
	flags.StringVar(&cfg.ClusterDomain, "cluster-domain", cfg.ClusterDomain, "DNS suffix of the cluster")
	flags.IntVar(&cfg.Nodes, "nodes", cfg.Nodes, "number of nodes to make on this machine, each in namespaces of its own but the first")
	flags.Var(prefixes(&cfg.NodesCIDRs), "nodes-cidr", "ranges of the bridge between the nodes of this machine")
	flags.StringSliceVar(&cfg.Etcd.Endpoints, "etcd-endpoints", nil, "client URLs of an etcd cluster to use instead of an own one")
	flags.StringVar(&cfg.Etcd.CAFile, "etcd-cafile", "", "certificate authority of that etcd")
	flags.StringVar(&cfg.Etcd.CertFile, "etcd-certfile", "", "certificate to show to that etcd")
	flags.StringVar(&cfg.Etcd.KeyFile, "etcd-keyfile", "", "key of that certificate")
	flags.StringVar(&cfg.ClusterTokenFile, "cluster-token-file", "", "file with a secret that is the same on all servers on that etcd")
	flags.StringVar(&cfg.SnapshotSchedule, "snapshot-schedule", cfg.SnapshotSchedule, "when to save the cluster, in the format of cron; empty for never")
	flags.IntVar(&cfg.SnapshotRetention, "snapshot-retention", cfg.SnapshotRetention, "how many of the snapshots made by schedule to keep")
	flags.StringVar(&cfg.AuditLog, "audit-log", "", "file for the API server's audit log (default: none)")
	flags.StringVar(&cfg.AuditPolicy, "audit-policy", "", "file with the audit policy (default: who has done what, without content)")
	return cmd
}

// nodeFlags are what servers and nodes that join have in common.
func nodeFlags(flags *pflag.FlagSet, cfg *node.Config) {
	flags.StringVar(&cfg.NodeName, "node-name", "", "name of the node (default: the host name)")
	flags.Var(addrs(&cfg.NodeIPs), "node-ip", "addresses of the node, one or one of each family (default: those of the default route's interface)")
	flags.StringSliceVar(&cfg.NodePortAddresses, "nodeport-addresses", nil, "ranges of the node's addresses that NodePorts are served on, and the words primary, localhost and all (default: all)")
	flags.Var(&cfg.Balancing, "external-load-balancing", "how connections from other hosts find their backend, unless the Service says")
	flags.Var(&cfg.Forwarding, "external-forwarding", "how connections from other hosts get to backends of other nodes, unless the Service says")
	flags.Uint16Var(&cfg.HTTPPort, "ingress-http-port", cfg.HTTPPort, "port of the ingress for HTTP")
	flags.Uint16Var(&cfg.HTTPSPort, "ingress-https-port", cfg.HTTPSPort, "port of the ingress for HTTPS")
	flags.BoolVarP(&cfg.Verbose, "verbose", "v", false, "log what the Kubernetes components do, not only what goes wrong")
}

func nextOnServer(out io.Writer, cfg node.Config) {
	fmt.Fprintf(out, "Next:\n  slipway kubectl get nodes,pods -A\n  export KUBECONFIG=%s   # for any other kubectl or Helm\n  slipway status\n", cfg.Kubeconfig)
}
