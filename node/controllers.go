// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"

	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/controller/leader"
	"slipway.dev/slipway/kubelet"
	"slipway.dev/slipway/scheduler"
)

// startControllers starts controllers and scheduler: at once on the only
// server, when this server leads on one of several.
func (m *member) startControllers() error {
	pki := m.cfg.certificates()
	controllers := func(ctx context.Context) error {
		return controller.Run(ctx, controller.Config{
			Kubeconfig: pki.Path("controller-manager.kubeconfig"), PodCIDRs: m.cfg.PodCIDRs,
			ServiceCIDRs: m.cfg.ServiceCIDRs, PKI: pki.Path,
		})
	}
	scheduling := func(ctx context.Context) error {
		return scheduler.Run(ctx, scheduler.Config{Kubeconfig: pki.Path("scheduler.kubeconfig")})
	}
	if !m.cfg.Etcd.Used() {
		m.sup.Start("controllers", stageRest, controllers)
		m.sup.Start("scheduler", stageRest, scheduling)
		return nil
	}
	client, err := m.newClient("server.kubeconfig", "slipway-leader")
	if err != nil {
		return err
	}
	for name, work := range map[string]func(context.Context) error{
		"kube-controller-manager": m.withCSI(controllers), "kube-scheduler": scheduling,
	} {
		m.sup.Start(name, stageRest, func(ctx context.Context) error {
			return leader.Run(ctx, leader.Config{Client: client, Name: name, Identity: m.cfg.NodeName, Log: m.log}, work)
		})
	}
	return nil
}

// withCSI gives the CSI volume plugin back to the kubelet once controllers that
// are started later than the kubelet have been built.
func (m *member) withCSI(controllers func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		built, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			err := controller.WaitStarted(built)
			if err == nil {
				err = kubelet.ReclaimCSI()
			}
			if err != nil && built.Err() == nil {
				m.log.Error("CSI drivers cannot register", "err", err)
			}
		}()
		return controllers(ctx)
	}
}

// waitControllers keeps the kubelet from being initialized before the
// controllers have been built, see [controller.WaitStarted]. A server that may
// not lead does not wait: it reclaims instead.
func (m *member) waitControllers(ctx context.Context) error {
	if m.cfg.Etcd.Used() {
		return nil
	}
	if err := controller.WaitStarted(ctx); err != nil {
		return fmt.Errorf("start controllers: %w", err)
	}
	return nil
}
