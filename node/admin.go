// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/node/token"
)

// AdminClient returns a client with the administrator's rights.
func AdminClient(cfg Config) (kubernetes.Interface, error) {
	if _, err := os.Stat(cfg.Kubeconfig); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: run this on a server, after `slipway up`", cfg.Kubeconfig)
	}
	return commandClient(cfg.Kubeconfig)
}

// ReaderClient returns a client that may read what the data plane reads: the
// administrator's on a server, that of the node's agent elsewhere.
func ReaderClient(cfg Config) (kubernetes.Interface, error) {
	agent := cfg.certificates().Path("agent.kubeconfig")
	if _, err := os.Stat(cfg.Kubeconfig); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(agent); err == nil {
			return commandClient(agent)
		}
	}
	return AdminClient(cfg)
}

// commandClient is for commands, which end soon.
func commandClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	config.UserAgent = "slipway"
	// Requests are made one after the other; the server has limits of its own.
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// CreateToken makes a token for the cluster of this server, and returns it
// with the address of a server that machines can reach.
func CreateToken(ctx context.Context, cfg Config, opts token.Options) (token.Token, string, error) {
	client, err := AdminClient(cfg)
	if err != nil {
		return token.Token{}, "", err
	}
	address, err := publicServer(ctx, client)
	if err != nil {
		return token.Token{}, "", err
	}
	authority, err := readAuthority(cfg)
	if err != nil {
		return token.Token{}, "", err
	}
	made, err := token.New(authority)
	if err != nil {
		return token.Token{}, "", err
	}
	return made, address, token.Create(ctx, client, made, opts)
}

// publicServer is the address of a server as the cluster knows it, without the
// port when that is the usual one.
func publicServer(ctx context.Context, client kubernetes.Interface) (string, error) {
	all, err := listServers(ctx, client)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", errors.New("look for the servers' addresses: the Service kubernetes has no endpoints")
	}
	if host, port, err := net.SplitHostPort(all[0]); err == nil && port == usualPort {
		return host, nil
	}
	return all[0], nil
}

// listServers returns the addresses of all API servers.
func listServers(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	found, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=kubernetes",
	})
	if err != nil {
		return nil, fmt.Errorf("look for the servers' addresses: %w", err)
	}
	slices := make([]*discoveryv1.EndpointSlice, len(found.Items))
	for i := range found.Items {
		slices[i] = &found.Items[i]
	}
	return serverAddresses(slices), nil
}

func readAuthority(cfg Config) (*x509.Certificate, error) {
	path := cfg.data("pki", "ca.crt")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("certificate authority %s: no PEM block", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
