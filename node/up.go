// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/apiserver"
	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/internal/payload"
	"slipway.dev/slipway/node/containerd"
	"slipway.dev/slipway/node/host"
	"slipway.dev/slipway/scheduler"
)

// startTimeout bounds the time from start to a Ready node.
const startTimeout = 3 * time.Minute

// cluster is a node that is being started or runs.
type cluster struct {
	cfg   Config
	log   *slog.Logger
	steps *Steps
	sup   *supervisor
	begin time.Time

	// registry holds the metrics of the data plane.
	registry *prometheus.Registry

	// adopted tells that containers of an earlier process go on.
	adopted bool

	mu     sync.Mutex
	probes []probe
}

// CheckStart finds out whether Up can start a node with this configuration: it
// is valid, no other process has the data, this program can read the data,
// and the machine has what a node needs. It changes nothing.
func CheckStart(cfg Config, steps *Steps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if holder, running := Holder(cfg); running {
		return &RunningError{DataDir: cfg.DataDir, Identity: holder}
	}
	if err := checkDataVersion(cfg); err != nil {
		return err
	}
	return steps.Do("machine has what a node needs", func() error { return Preflight(cfg) })
}

// Up runs a whole cluster on this machine until ctx ends or a part of it
// fails. It shows each step, and Progress.Ready once the node is Ready and
// the system serves. Pods, their network and their volumes go on when it
// returns, and are adopted by the next Up; only when a node that was not
// adopted fails to start is all of it taken down again. Call CheckStart
// first.
func Up(ctx context.Context, cfg Config, steps *Steps, log *slog.Logger) error {
	lock, err := lockData(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := stampData(cfg); err != nil {
		return err
	}
	user := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c := &cluster{
		cfg: cfg, log: log, steps: steps, begin: time.Now(),
		sup: &supervisor{log: log, fail: fail}, registry: prometheus.NewRegistry(),
	}
	err = c.start(ctx)
	if err != nil && ctx.Err() != nil {
		// What failed first, not what failed for that reason.
		err = context.Cause(ctx)
	}
	if err != nil {
		c.sup.Stop()
		return errors.Join(err, c.undo())
	}
	defer c.sup.Stop()
	steps.Show(Progress{Ready: true, Took: time.Since(c.begin)})
	// What only the start has needed goes back to the machine.
	debug.FreeOSMemory()
	<-ctx.Done()
	if user.Err() != nil {
		log.Info("stopped by the user")
		return nil
	}
	return context.Cause(ctx)
}

// undo takes down what a failed start has made, unless there are pods from
// before.
func (c *cluster) undo() error {
	if c.adopted {
		return nil
	}
	return takeDown(c.cfg, DownOptions{}, NewSteps(func(Progress) {}))
}

func (c *cluster) start(parent context.Context) error {
	ctx, cancel := context.WithTimeoutCause(parent, startTimeout,
		fmt.Errorf("not up within %v, see %s", startTimeout, c.cfg.LogFile()))
	defer cancel()
	if err := c.prepare(); err != nil {
		return err
	}
	c.sup.Start("status", stageRest, c.serveStatus)
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.startRuntime(gctx) })
	group.Go(func() error { return c.startAPI(gctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := controller.WaitStarted(ctx); err != nil {
		return err
	}
	return c.startData(ctx)
}

// prepare makes directories, certificates and kernel settings.
func (c *cluster) prepare() error {
	return c.steps.Do("certificates, cgroups and kernel settings", func() error {
		for _, dir := range []string{c.cfg.RunDir, c.cfg.data("log"), c.cfg.data("bin"), c.cfg.kubeletDir(), c.cfg.run("cni", "net.d")} {
			if err := os.MkdirAll(dir, 0o711); err != nil {
				return fmt.Errorf("make directory: %w", err)
			}
		}
		if err := c.cfg.certificates().Ensure(); err != nil {
			return err
		}
		if err := payload.Extract(c.cfg.data("bin"), "containerd-shim-runc-v2", "slipway-cni"); err != nil {
			return err
		}
		return prepareHost(c.cfg)
	})
}

func prepareHost(cfg Config) error {
	journal, err := host.OpenJournal(cfg.journal())
	if err != nil {
		return err
	}
	// These are made by upstream components at fixed places.
	for _, dir := range []string{"/var/lib/kubelet", podLogs, containerLogs, "/var/lib/cni"} {
		if err := journal.NoteDir(dir); err != nil {
			return err
		}
	}
	if err := journal.SetSysctls(); err != nil {
		return err
	}
	if err := journal.MountBPF(); err != nil {
		return err
	}
	return host.MakeCgroup(cgroupName)
}

// startRuntime starts or adopts containerd and makes sure that the sandbox
// image is there.
func (c *cluster) startRuntime(ctx context.Context) error {
	conf := c.cfg.containerd()
	conf.RestrictOOMScore = !host.MayLowerOOMScore()
	begin := time.Now()
	if containerd.StateLost(conf) {
		if err := clearOrphans(c.cfg); err != nil {
			return err
		}
	}
	daemon, err := containerd.Start(ctx, conf, c.log)
	if err != nil {
		return err
	}
	c.sup.Start("containerd", stageRuntime, daemon.Run)
	step := "containerd started"
	if daemon.Adopted {
		step, c.adopted = "containerd adopted", true
	}
	c.steps.Show(Progress{Step: step, Took: time.Since(begin)})
	return loadOwnImages(ctx, c.cfg)
}

// startAPI starts etcd and the API server, then its closest clients.
func (c *cluster) startAPI(ctx context.Context) error {
	begin := time.Now()
	etcd := apiserver.EtcdConfig{
		Dir: c.cfg.data("etcd"), SocketDir: c.cfg.run("etcd"), LogFile: c.cfg.data("log", "etcd.log"),
	}
	storage, err := apiserver.StartEtcd(ctx, etcd)
	if err != nil {
		return err
	}
	c.sup.Start("etcd", stageRuntime, storage.Run)
	c.steps.Show(Progress{Step: "etcd serves", Took: time.Since(begin)})
	pki := c.cfg.certificates()
	c.sup.Start("api server", stageAPI, func(ctx context.Context) error {
		return apiserver.Run(ctx, apiserver.Config{
			EtcdEndpoint: etcd.Endpoint(), Address: c.cfg.NodeIPs[0], Port: c.cfg.APIPort,
			ServiceCIDRs: c.cfg.ServiceCIDRs, PKI: pki.Path,
		})
	})
	if err := apiserver.WaitReady(ctx, c.cfg.APIPort, pki.Path("ca.crt")); err != nil {
		return err
	}
	c.steps.Show(Progress{Step: "API server ready", Took: time.Since(begin)})
	c.sup.Start("controllers", stageRest, func(ctx context.Context) error {
		return controller.Run(ctx, controller.Config{
			Kubeconfig: pki.Path("controller-manager.kubeconfig"), PodCIDRs: c.cfg.PodCIDRs,
			ServiceCIDRs: c.cfg.ServiceCIDRs, PKI: pki.Path,
		})
	})
	c.sup.Start("scheduler", stageRest, func(ctx context.Context) error {
		return scheduler.Run(ctx, scheduler.Config{Kubeconfig: pki.Path("scheduler.kubeconfig")})
	})
	return nil
}
