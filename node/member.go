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

	"slipway.dev/slipway/internal/payload"
	"slipway.dev/slipway/internal/trim"
	"slipway.dev/slipway/node/containerd"
	"slipway.dev/slipway/node/host"
)

// startTimeout bounds the time from start to a Ready node.
const startTimeout = 3 * time.Minute

// startGC is the garbage collector's target while the node starts. What is made then
// mostly stays; with few collections it lies in pieces between garbage, whose memory
// cannot be given back.
const startGC = 50

// member is this machine as a part of a cluster: a server, or a node that has
// joined; it is being started or runs.
type member struct {
	cfg   Config
	log   *slog.Logger
	steps *Steps
	sup   *supervisor
	begin time.Time

	// joined is nil on a server.
	joined *joined

	// registry holds the metrics of the data plane.
	registry *prometheus.Registry

	// adopted tells that containers of an earlier process go on.
	adopted bool

	mu     sync.Mutex
	probes []probe
}

func newMember(cfg Config, steps *Steps, log *slog.Logger) *member {
	return &member{
		cfg: cfg, log: log, steps: steps, begin: time.Now(),
		sup: &supervisor{log: log}, registry: prometheus.NewRegistry(),
	}
}

// run takes the data directory, starts the node with start, and keeps it until
// ctx ends or a part of it fails. Only when a node that was not adopted fails
// to start is all of it taken down again.
func (m *member) run(ctx context.Context, start func(context.Context) error) error {
	lock, err := lockData(m.cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := stampData(m.cfg); err != nil {
		return err
	}
	debug.SetGCPercent(startGC)
	user := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	m.sup.fail = fail
	err = m.start(ctx, start)
	if err != nil && ctx.Err() != nil {
		// What failed first, not what failed for that reason.
		err = context.Cause(ctx)
	}
	if err != nil {
		m.sup.Stop()
		return errors.Join(err, m.undo())
	}
	defer m.sup.Stop()
	m.steps.Show(Progress{Ready: true, Took: time.Since(m.begin)})
	m.sup.Start("memory", stageRest, func(ctx context.Context) error {
		trim.Run(ctx, m.log)
		return nil
	})
	<-ctx.Done()
	if user.Err() != nil {
		m.log.Info("stopped by the user")
		return nil
	}
	return context.Cause(ctx)
}

// undo takes down what a failed start has made, unless there are pods from
// before.
func (m *member) undo() error {
	if m.adopted {
		return nil
	}
	return takeDown(m.cfg, DownOptions{}, NewSteps(func(Progress) {}))
}

// start gives start its time, and tells what to read when that is not enough.
func (m *member) start(parent context.Context, start func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(parent, startTimeout,
		fmt.Errorf("not up within %v, see %s", startTimeout, m.cfg.LogFile()))
	defer cancel()
	if err := m.prepare(ctx); err != nil {
		return err
	}
	m.sup.Start("status", stageRest, m.serveStatus)
	return start(ctx)
}

// prepare makes directories, certificates and kernel settings.
func (m *member) prepare(ctx context.Context) error {
	return m.steps.Do("certificates, cgroups and kernel settings", func() error {
		for _, dir := range []string{m.cfg.RunDir, m.cfg.data("log"), m.cfg.data("bin"), m.cfg.kubeletDir(), m.cfg.run("cni", "net.d")} {
			if err := os.MkdirAll(dir, 0o711); err != nil {
				return fmt.Errorf("make directory: %w", err)
			}
		}
		if err := m.prepareKeys(ctx); err != nil {
			return err
		}
		return prepareHost(m.cfg)
	})
}

// prepareKeys makes a server's certificates. A node that joins asks its server
// for them.
func (m *member) prepareKeys(ctx context.Context) error {
	if m.joined != nil {
		return os.MkdirAll(m.cfg.data("pki"), 0o700)
	}
	if err := m.cfg.finishRestore(); err != nil {
		return err
	}
	if m.cfg.Etcd.Used() {
		if err := m.cfg.joinEtcd(ctx); err != nil {
			return err
		}
	}
	if err := m.cfg.certificates().Ensure(); err != nil {
		return err
	}
	return ensureEncryption(m.cfg.data("pki"))
}

func prepareHost(cfg Config) error {
	journal, err := host.OpenJournal(cfg.journal())
	if err != nil {
		return err
	}
	// These are made by upstream components at fixed places.
	for _, dir := range []string{"/var/lib/kubelet", devicePlugins, podLogs, containerLogs, "/var/lib/cni", cniResults} {
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
	kernel, err := host.OpenModules()
	if err != nil {
		return err
	}
	kernel.LoadModules()
	if err := journal.EnableControllers(); err != nil {
		return err
	}
	return host.MakeCgroup(cgroupName)
}

// startRuntime writes the helper programs, starts or adopts containerd, and makes
// sure that the sandbox image is there.
func (m *member) startRuntime(ctx context.Context) error {
	if err := payload.Extract(m.cfg.data("bin"), "containerd-shim-runc-v2", "slipway-cni"); err != nil {
		return err
	}
	conf := m.cfg.containerd()
	conf.RestrictOOMScore = !host.MayLowerOOMScore()
	begin := time.Now()
	if containerd.StateLost(conf) {
		if err := clearOrphans(m.cfg); err != nil {
			return err
		}
	}
	daemon, err := containerd.Start(ctx, conf, m.log)
	if err != nil {
		return err
	}
	m.sup.Start("containerd", stageRuntime, daemon.Run)
	step := "containerd started"
	if daemon.Adopted {
		step, m.adopted = "containerd adopted", true
	}
	m.steps.Show(Progress{Step: step, Took: time.Since(begin)})
	return loadOwnImages(ctx, m.cfg)
}
