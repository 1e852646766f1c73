// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"path/filepath"

	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/internal/leader"
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
			ServiceCIDRs: m.cfg.ServiceCIDRs, PKI: pki.Path, Built: m.controllersBuilt,
			PluginDir: filepath.Join(m.cfg.kubeletDir(), "volume-plugins"),
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
		"kube-controller-manager": controllers, "kube-scheduler": scheduling,
	} {
		m.sup.Start(name, stageRest, func(ctx context.Context) error {
			return leader.Run(ctx, leader.Config{Client: client, Name: name, Identity: m.cfg.NodeName, Log: m.log}, work)
		})
	}
	return nil
}

// controllersBuilt gives the CSI volume plugin back to the kubelet, which is
// built at the same time.
func (m *member) controllersBuilt() {
	if err := kubelet.ReclaimCSI(); err != nil {
		m.log.Error("CSI drivers cannot register", "err", err)
	}
}
