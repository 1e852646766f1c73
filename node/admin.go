// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/node/token"
)

// AdminClient returns a client with the administrator's rights.
func AdminClient(cfg Config) (kubernetes.Interface, error) {
	if _, err := os.Stat(cfg.Kubeconfig); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: run this on a server, after `slipway up`", cfg.Kubeconfig)
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.Kubeconfig, err)
	}
	config.UserAgent = "slipway"
	return kubernetes.NewForConfig(config)
}

// CreateToken makes a token for the cluster of this server, and returns it
// with the server's address.
func CreateToken(ctx context.Context, cfg Config, opts token.Options) (token.Token, string, error) {
	client, err := AdminClient(cfg)
	if err != nil {
		return token.Token{}, "", err
	}
	full, err := cfg.Complete()
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
	return made, full.NodeIPs[0].String(), token.Create(ctx, client, made, opts)
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
