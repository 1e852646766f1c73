// SPDX-License-Identifier: Apache-2.0

// Package scheduler runs the Kubernetes scheduler in this process. It is an
// assembly of upstream packages and serves no port of its own.
package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-base/configz"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// Config is what the scheduler needs to know.
type Config struct {
	// Kubeconfig holds the identity system:kube-scheduler.
	Kubeconfig string
}

// Run schedules until ctx ends or the scheduler fails.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Kubeconfig == "" {
		return errors.New("scheduler: no kubeconfig given")
	}
	opts := options.NewOptions()
	flags := pflag.NewFlagSet("kube-scheduler", pflag.ContinueOnError)
	for _, set := range opts.Flags.FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(cfg.args()); err != nil {
		return fmt.Errorf("scheduler options: %w", err)
	}
	if err := opts.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("scheduler features: %w", err)
	}
	name, err := cache.NewInformerName("kube-scheduler")
	if err != nil {
		return fmt.Errorf("name scheduler informers: %w", err)
	}
	defer name.Release()
	opts.InformerName = name
	completed, sched, err := app.Setup(ctx, opts)
	if err != nil {
		return fmt.Errorf("set up scheduler: %w", err)
	}
	// An earlier run in this process has registered it.
	configz.Delete("componentconfig")
	return app.Run(ctx, completed, sched)
}

// args are the upstream flags; each is documented at
// https://kubernetes.io/docs/reference/command-line-tools-reference/kube-scheduler/
func (c Config) args() []string {
	return []string{
		"--kubeconfig=" + c.Kubeconfig,
		"--authentication-kubeconfig=" + c.Kubeconfig,
		"--authorization-kubeconfig=" + c.Kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
	}
}
