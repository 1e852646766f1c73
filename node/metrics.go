// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/metrics"
)

// startMetrics serves the resource metrics API and makes it a part of the
// cluster's. Nothing waits for it: the first figures come when the kubelets
// have been asked.
func (m *member) startMetrics(ctx context.Context, client kubernetes.Interface) error {
	pki := m.cfg.certificates()
	m.sup.Start("metrics", stageRest, func(ctx context.Context) error {
		return metrics.Run(ctx, metrics.Config{
			Address: m.cfg.NodeIPs[0], Kubeconfig: pki.Path("server.kubeconfig"), PKI: pki.Path,
		})
	})
	m.addProbe(checkMetrics(client))
	node, err := getNode(ctx, client, m.cfg.NodeName)
	if err != nil {
		return fmt.Errorf("publish metrics: %w", err)
	}
	if err := apply(ctx, client.DiscoveryV1().RESTClient(), "endpointslices", metrics.EndpointSlice(node, m.cfg.NodeIPs[0])); err != nil {
		return err
	}
	authority, err := os.ReadFile(pki.Path("ca.crt"))
	if err != nil {
		return fmt.Errorf("publish metrics: %w", err)
	}
	// Last of all: a group that nobody serves makes discovery slow.
	return applyAt(ctx, client.Discovery().RESTClient(), "/apis/apiregistration.k8s.io/v1/apiservices", metrics.APIService(authority))
}

// installMetrics makes what leads to the resource metrics API.
func installMetrics(ctx context.Context, client kubernetes.Interface) error {
	if err := apply(ctx, client.RbacV1().RESTClient(), "clusterroles", metrics.ReaderRole()); err != nil {
		return err
	}
	return apply(ctx, client.CoreV1().RESTClient(), "services", metrics.Service())
}

func checkMetrics(client kubernetes.Interface) probe {
	return func(ctx context.Context) Check {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/nodes").DoRaw(ctx)
		if err != nil {
			return Check{Name: "metrics", Says: fmt.Sprintf("not served: %v", err), Do: "wait for the first figures; look for errors of the metrics server in the log"}
		}
		return Check{Name: "metrics", OK: true, Says: "serves what nodes and pods use"}
	}
}
