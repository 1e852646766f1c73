// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/trim"
	"slipway.dev/slipway/proxy"
)

// agentConfig is what the process of our side is told.
type agentConfig struct {
	Kubeconfig string
	Pins       string
	Cgroup     string
	Pods       []pod
}

// runAgent is the part of slipway-agent that takes kube-proxy's place: data
// path and service proxy. The pods are those of the benchmark, as no runtime
// adds them.
func runAgent(ctx context.Context, cfg agentConfig) error {
	trim.Start()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	datapath, err := bpf.Open(bpf.Config{PinDir: cfg.Pins, Log: log})
	if err != nil {
		return err
	}
	defer datapath.Close()
	if err := datapath.AttachSock(cfg.Cgroup); err != nil {
		return err
	}
	for _, p := range cfg.Pods {
		if err := addPod(datapath, p); err != nil {
			return err
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	all := informers.NewSharedInformerFactory(client, 0)
	own := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "spec.nodeName=" + nodeName
	}))
	service, err := proxy.New(proxy.Config{
		NodeName: nodeName, Informers: all, Pods: own.Core().V1().Pods(), Datapath: datapath,
		HealthAddress: ":10256", Registry: prometheus.NewRegistry(), Log: log,
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	all.Start(ctx.Done())
	own.Start(ctx.Done())
	group.Go(func() error { return service.Run(ctx) })
	group.Go(func() error {
		if awaitSynced(ctx, service) == nil {
			trim.Run(ctx, log)
		}
		return nil
	})
	return group.Wait()
}

func awaitSynced(ctx context.Context, service *proxy.Proxy) error {
	for !service.Synced() {
		if err := sandbox.Rest(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func addPod(datapath *bpf.Datapath, p pod) error {
	if err := datapath.AttachPod(p.Near); err != nil {
		return err
	}
	err := datapath.PutEndpoint(bpf.Endpoint{Addrs: []netip.Addr{p.Addr}, Ifindex: p.Near, PodMAC: p.FarMAC, HostMAC: p.NearMAC})
	if err != nil {
		return fmt.Errorf("add pod %v: %w", p.Addr, err)
	}
	return nil
}
