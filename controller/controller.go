// SPDX-License-Identifier: Apache-2.0

// Package controller runs the Kubernetes controllers in this process: those
// that a cluster without a cloud provider needs. It is an assembly of
// upstream packages and serves no port of its own.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

// Config is what the controllers need to know about their cluster.
type Config struct {
	// Kubeconfig holds the identity system:kube-controller-manager.
	Kubeconfig string
	// PodCIDRs are the ranges that nodes get their pod CIDRs from.
	PodCIDRs []netip.Prefix
	// ServiceCIDRs are left out when pod CIDRs are handed out.
	ServiceCIDRs []netip.Prefix
	// PKI returns the path of a file in the certificate directory.
	PKI func(name string) string
	// PluginDir is where programs for volumes are looked for. Upstream makes the
	// directory, and by default one in /usr.
	PluginDir string
	// Built is called when all controllers have been built and before they
	// run.
	Built func()
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Kubeconfig == "":
		return errors.New("controllers: no kubeconfig given")
	case len(c.PodCIDRs) == 0:
		return errors.New("controllers: no pod CIDR given")
	case c.PluginDir == "":
		return errors.New("controllers: no directory of volume plugins given")
	case c.PKI == nil || c.Built == nil:
		return errors.New("controllers: certificates and what to do when they are built must be given")
	}
	return nil
}

// Run runs the controllers until ctx ends or they fail.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	opts, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("controller options: %w", err)
	}
	known, disabled, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	for _, set := range opts.Flags(known, disabled, aliases).FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(cfg.args()); err != nil {
		return fmt.Errorf("controller options: %w", err)
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("controller features: %w", err)
	}
	conf, err := opts.Config(ctx, known, disabled, aliases)
	if err != nil {
		return fmt.Errorf("complete controller options: %w", err)
	}
	return run(ctx, conf.Complete(), cfg.Built)
}

// args are the upstream flags; each is documented at
// https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
func (c Config) args() []string {
	args := []string{
		"--kubeconfig=" + c.Kubeconfig,
		"--authentication-kubeconfig=" + c.Kubeconfig,
		"--authorization-kubeconfig=" + c.Kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + join(c.PodCIDRs),
		"--service-cluster-ip-range=" + join(c.ServiceCIDRs),
		"--cluster-signing-cert-file=" + c.PKI("ca.crt"),
		"--cluster-signing-key-file=" + c.PKI("ca.key"),
		"--root-ca-file=" + c.PKI("ca.crt"),
		"--service-account-private-key-file=" + c.PKI("service-account.key"),
		"--flex-volume-plugin-dir=" + c.PluginDir,
		"--controllers=" + strings.Join(controllers(), ","),
		// In the same process: the API server protects itself, and the default
		// of 20 a second costs seconds at start.
		"--kube-api-qps=400",
		"--kube-api-burst=800",
		"--profiling=false",
	}
	return append(args, maskSizes(c.PodCIDRs)...)
}

// controllers selects all that are on by default, and those that handle the
// bootstrap tokens of joining nodes.
func controllers() []string {
	return []string{"*", "bootstrap-signer-controller", "token-cleaner-controller"}
}

// maskSizes gives each node 254 IPv4 addresses and a /64 of IPv6, or what fits
// when the cluster's range is smaller.
func maskSizes(cidrs []netip.Prefix) []string {
	var args []string
	for _, p := range cidrs {
		if p.Addr().Is4() {
			args = append(args, fmt.Sprintf("--node-cidr-mask-size-ipv4=%d", max(24, p.Bits())))
		} else {
			args = append(args, fmt.Sprintf("--node-cidr-mask-size-ipv6=%d", max(64, p.Bits())))
		}
	}
	return args
}

func join(prefixes []netip.Prefix) string {
	text := make([]string, len(prefixes))
	for i, p := range prefixes {
		text[i] = p.String()
	}
	return strings.Join(text, ",")
}
