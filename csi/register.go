// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrar tells kubelet, which finds its socket, where the driver is. It
// is what the node-driver-registrar sidecar does.
type registrar struct {
	registration.UnimplementedRegistrationServer
	endpoint string
	metrics  *metrics
	log      *slog.Logger
}

// serveRegistration serves kubelet's plugin registration.
func (d *Driver) serveRegistration(ctx context.Context) error {
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, &registrar{
		endpoint: pluginSocket(d.config.KubeletRoot), metrics: d.metrics, log: d.config.Log,
	})
	return serve(ctx, s, registrationSocket(d.config.KubeletRoot))
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              DriverName,
		Endpoint:          r.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus takes kubelet's answer. Kubelet tries again by
// itself when it could not register the driver.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	r.metrics.setRegistered(s.GetPluginRegistered())
	if s.GetPluginRegistered() {
		r.log.Info("driver registered with kubelet")
	} else {
		r.log.Error("kubelet refused the driver", "err", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
