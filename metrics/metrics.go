// SPDX-License-Identifier: Apache-2.0

// Package metrics serves the resource metrics API, metrics.k8s.io, that
// `kubectl top` and HorizontalPodAutoscaler use, in this process. It is an
// assembly of the upstream metrics server, which asks each kubelet every
// fifteen seconds and keeps the last two answers in memory.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
)

// resolution is the time between two questions to a kubelet.
const resolution = 15 * time.Second

// Port is where the API is served, on the node's own addresses.
const Port = 10261

// CertName is the name of the certificate that it is served with, and
// ServerName the one that the API server expects in it.
const (
	CertName   = "metrics-server"
	ServerName = serviceName + "." + serviceNamespace + ".svc"
)

// Config is what the server needs to know.
type Config struct {
	// Address is the node's own address.
	Address netip.Addr
	// Kubeconfig holds an identity that may ask the API server who a client
	// is and what it may do, and read nodes and pods.
	Kubeconfig string
	// PKI returns the path of a file in the certificate directory.
	PKI func(name string) string
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case !c.Address.IsValid():
		return errors.New("metrics: no node address given")
	case c.Kubeconfig == "":
		return errors.New("metrics: no kubeconfig given")
	case c.PKI == nil:
		return errors.New("metrics: no certificates given")
	}
	return nil
}

// Run serves the API until ctx ends or the server fails.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	server, err := cfg.options().ServerConfig()
	if err != nil {
		return fmt.Errorf("configure metrics server: %w", err)
	}
	completed, err := server.Complete()
	if err != nil {
		return fmt.Errorf("make metrics server: %w", err)
	}
	return completed.RunUntil(ctx.Done())
}

func (c Config) options() *options.Options {
	opts := options.NewOptions()
	opts.Kubeconfig, opts.MetricResolution = c.Kubeconfig, resolution
	opts.SecureServing.BindAddress, opts.SecureServing.BindPort = c.Address.AsSlice(), Port
	opts.SecureServing.ServerCert.CertKey.CertFile = c.PKI(CertName + ".crt")
	opts.SecureServing.ServerCert.CertKey.KeyFile = c.PKI(CertName + ".key")
	opts.Authentication.RemoteKubeConfigFile = c.Kubeconfig
	opts.Authorization.RemoteKubeConfigFile = c.Kubeconfig
	// Who may reach the kubelets is settled by their own authorization.
	opts.KubeletClient.KubeletCAFile = c.PKI("ca.crt")
	opts.KubeletClient.KubeletClientCertFile = c.PKI("apiserver-kubelet-client.crt")
	opts.KubeletClient.KubeletClientKeyFile = c.PKI("apiserver-kubelet-client.key")
	opts.KubeletClient.KubeletPreferredAddressTypes = []string{"InternalIP"}
	opts.Features.EnableProfiling = false
	opts.Features.EnablePriorityAndFairness = false
	return opts
}
