// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/test/api"
)

// cluster is an API with the objects of a population.
type cluster struct {
	population
	api        *api.Server
	kubeconfig string
}

func newCluster(ctx context.Context, s shape, dir string) (*cluster, error) {
	c := &cluster{population: populate(s), api: api.New(), kubeconfig: filepath.Join(dir, "kubeconfig")}
	service, endpoints := c.away()
	if err := c.api.Put(machine(), service, endpoints); err != nil {
		return nil, err
	}
	for number := range s.Services {
		if err := c.api.Put(c.service(number), c.slice(number, c.endpoints(number))); err != nil {
			return nil, err
		}
	}
	if err := c.api.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	if err := c.warm(ctx); err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	return c, c.api.WriteKubeconfig(c.kubeconfig)
}

// warm has the API encode all objects, which it does once: what that takes is
// no part of any side's time.
func (c *cluster) warm(ctx context.Context) error {
	config := c.api.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{}); err != nil {
		return err
	}
	_, err = client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	return err
}

// serve answers on a node, too, at the same address, until it is stopped.
func (c *cluster) serve(n *node) (stop func() error, err error) {
	listener, err := n.self.listen(strings.TrimPrefix(c.api.URL(), "http://"))
	if err != nil {
		return nil, fmt.Errorf("serve API on the node: %w", err)
	}
	server := &http.Server{Handler: c.api}
	go func() { _ = server.Serve(listener) }()
	return server.Close, nil
}

// point leads a Service to one endpoint.
func (c *cluster) point(number int, to netip.Addr) error {
	return c.api.Put(c.slice(number, []netip.Addr{to}))
}
