// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/apiserver"
	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/node/local"
)

// CheckStart finds out whether Up can start a node with this configuration: it
// is valid, no other process has the data, this program can read the data,
// and the machine has what a node needs. It changes nothing.
func CheckStart(cfg Config, steps *Steps) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	return checkStart(cfg, steps, server)
}

// checkStart is what servers and nodes that join have in common.
func checkStart(cfg Config, steps *Steps, r role) error {
	if holder, running := Holder(cfg); running {
		return &RunningError{DataDir: cfg.DataDir, Identity: holder}
	}
	if err := checkDataVersion(cfg); err != nil {
		return err
	}
	if err := checkRole(cfg, r); err != nil {
		return err
	}
	return steps.Do("machine has what a node needs", func() error { return Preflight(cfg) })
}

// Up runs a whole cluster on this machine until ctx ends or a part of it
// fails. It shows each step, and Progress.Ready once the node is Ready and
// the system serves. Pods, their network and their volumes go on when it
// returns, and are adopted by the next Up. Call CheckStart first.
func Up(ctx context.Context, cfg Config, steps *Steps, log *slog.Logger) error {
	m := newMember(cfg, steps, log)
	return m.run(ctx, m.startServer)
}

func (m *member) startServer(ctx context.Context) error {
	if m.cfg.hasLocalNodes() {
		if err := local.MakeNetwork(m.cfg.local()); err != nil {
			return err
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.startRuntime(gctx) })
	group.Go(func() error { return m.startAPI(gctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	admin, err := m.newClient("server.kubeconfig", "slipway-server")
	if err != nil {
		return err
	}
	if err := installCluster(ctx, admin, m.cfg); err != nil {
		return err
	}
	m.sup.Start("certificate approval", stageRest, controller.NewApprover(admin, m.log).Run)
	if err := m.startData(ctx); err != nil {
		return err
	}
	if err := labelControlPlane(ctx, admin, m.cfg.NodeName); err != nil {
		return err
	}
	if err := m.startMetrics(ctx, admin); err != nil {
		return err
	}
	m.addProbe(m.checkEncryption)
	if !m.cfg.Etcd.Used() {
		if err := m.startSnapshots(); err != nil {
			return err
		}
	}
	return m.startLocal(ctx, admin)
}

// startAPI starts etcd and the API server, then its closest clients. The API
// server prepares itself while etcd starts.
func (m *member) startAPI(ctx context.Context) error {
	begin := time.Now()
	policy, err := m.cfg.auditPolicy()
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	pki := m.cfg.certificates()
	conf := apiserver.Config{
		Etcd: m.cfg.storage(), Address: m.cfg.NodeIPs[0], Port: m.cfg.APIPort,
		ServiceCIDRs: m.cfg.ServiceCIDRs, PKI: pki.Path, EncryptionConfig: pki.Path(encryptionFile),
		AuditLog: m.cfg.AuditLog, AuditPolicy: policy,
	}
	if !m.cfg.Etcd.Used() {
		conf.Embedded = m.startEtcd(ctx, fail)
	}
	m.sup.Start("api server", stageAPI, func(ctx context.Context) error { return apiserver.Run(ctx, conf) })
	if err := apiserver.WaitReady(ctx, m.cfg.APIPort, pki.Path("ca.crt")); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	m.steps.Show(Progress{Step: "API server ready", Took: time.Since(begin)})
	return m.startControllers()
}

// startEtcd starts the embedded etcd and returns how to wait for it.
func (m *member) startEtcd(ctx context.Context, fail context.CancelCauseFunc) func(context.Context) (*apiserver.Etcd, error) {
	begin, started := time.Now(), make(chan *apiserver.Etcd, 1)
	go func() {
		storage, err := apiserver.StartEtcd(ctx, m.cfg.etcd())
		if err != nil {
			fail(err)
			return
		}
		m.sup.Start("etcd", stageRuntime, storage.Run)
		m.steps.Show(Progress{Step: "etcd serves", Took: time.Since(begin)})
		started <- storage
	}()
	return func(ctx context.Context) (*apiserver.Etcd, error) {
		select {
		case storage := <-started:
			return storage, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
