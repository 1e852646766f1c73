// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// newClient returns a client with the rights of a kubeconfig in the certificate
// directory.
func (m *member) newClient(kubeconfig, agent string) (kubernetes.Interface, error) {
	config, err := m.clientConfig(kubeconfig, agent)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", agent, err)
	}
	return client, nil
}

func (m *member) clientConfig(kubeconfig, agent string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", m.cfg.data("pki", kubeconfig))
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", agent, err)
	}
	config.UserAgent = agent
	config.QPS, config.Burst = 100, 200
	return config, nil
}

func (m *member) metrics() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// getNode returns the Node object as it is now.
func getNode(ctx context.Context, client kubernetes.Interface, name string) (*corev1.Node, error) {
	var node *corev1.Node
	err := insist(ctx, func(ctx context.Context) (err error) {
		node, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for node %s: %w", name, err)
	}
	return node, nil
}

// waitNode polls the Node object until ok says so.
func waitNode(ctx context.Context, client kubernetes.Interface, name string, ok func(*corev1.Node) error) (*corev1.Node, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var node *corev1.Node
		err := attempt(ctx, requestTimeout, func(ctx context.Context) (err error) {
			node, err = client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err == nil {
			err = ok(node)
		}
		if err == nil {
			return node, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for node %s: %w (last: %v)", name, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// isReady returns nil for a node that is Ready, or an error with the reason
// why it is not.
func isReady(node *corev1.Node) error {
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			if cond.Status == corev1.ConditionTrue {
				return nil
			}
			return errors.New(cond.Message)
		}
	}
	return errors.New("the kubelet has not reported yet")
}

// isReadySince is isReady for a node whose kubelet has reported after begin:
// what an earlier one has left behind does not count.
func isReadySince(begin time.Time) func(*corev1.Node) error {
	return func(node *corev1.Node) error {
		for _, cond := range node.Status.Conditions {
			// The API has whole seconds.
			if cond.Type == corev1.NodeReady && cond.LastHeartbeatTime.Time.Before(begin.Truncate(time.Second)) {
				return errors.New("the kubelet has not reported since the start")
			}
		}
		return isReady(node)
	}
}

func checkAPI(client kubernetes.Interface) probe {
	return func(ctx context.Context) Check {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return Check{Name: "API server", Says: fmt.Sprintf("not ready: %v", err), Do: "look for etcd and disk errors in the log"}
		}
		return Check{Name: "API server", OK: true, Says: "ready, etcd included"}
	}
}

func checkNode(client kubernetes.Interface, name string) probe {
	return func(ctx context.Context) Check {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			err = isReady(node)
		}
		if err != nil {
			return Check{Name: "node", Says: fmt.Sprintf("%s is not Ready: %v", name, err), Do: "slipway kubectl describe node " + name}
		}
		return Check{Name: "node", OK: true, Says: name + " is Ready"}
	}
}
