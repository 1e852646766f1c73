// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/certificate"

	"slipway.dev/slipway/controller"
	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/kubelet"
)

func (c Config) bootstrapFile() string { return c.data("pki", "bootstrap.kubeconfig") }

// writeBootstrap writes the kubeconfig by which the kubelet asks for its
// certificate; it holds the token.
func (m *member) writeBootstrap(in *membership) error {
	return m.writeKubeconfig(m.cfg.bootstrapFile(), &clientcmdapi.AuthInfo{Token: in.token.Bearer()})
}

func (m *member) writeKubeconfig(path string, user *clientcmdapi.AuthInfo) error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["slipway"] = &clientcmdapi.Cluster{
		Server: "https://" + m.cfg.localAPI(), CertificateAuthority: m.cfg.data("pki", "ca.crt"),
	}
	cfg.AuthInfos["slipway"] = user
	cfg.Contexts["slipway"] = &clientcmdapi.Context{Cluster: "slipway", AuthInfo: "slipway"}
	cfg.CurrentContext = "slipway"
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", path, err)
	}
	return atomicfile.Write(path, data, 0o600)
}

// obtainIdentity gets the certificates of the kubelet and of the agent, when
// they are not there yet, and keeps them fresh.
func (m *member) obtainIdentity(ctx context.Context) error {
	begin := time.Now()
	if err := kubelet.Bootstrap(ctx, m.kubeletConfig()); err != nil {
		return fmt.Errorf("get the kubelet's certificate: %w", err)
	}
	if err := m.forgetBootstrap(); err != nil {
		return err
	}
	if err := m.startAgentCertificate(ctx); err != nil {
		return err
	}
	m.steps.Show(Progress{Step: "node has its certificates", Took: time.Since(begin)})
	return nil
}

// startAgentCertificate asks for the agent's certificate with the rights of
// the node, waits for it, and renews it before it ends.
func (m *member) startAgentCertificate(ctx context.Context) error {
	client, err := m.newClient("kubelet.kubeconfig", "slipway-join")
	if err != nil {
		return err
	}
	dir := m.cfg.data("pki")
	store, err := certificate.NewFileStore("agent-client", dir, dir, "", "")
	if err != nil {
		return fmt.Errorf("open the agent's certificate: %w", err)
	}
	manager, err := certificate.NewManager(&certificate.Config{
		Name:        "agent",
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		Template: &x509.CertificateRequest{Subject: pkix.Name{
			CommonName: controller.AgentUser + m.cfg.NodeName, Organization: []string{controller.AgentGroup},
		}},
		SignerName: certificatesv1.KubeAPIServerClientSignerName,
		GetUsages:  certificate.DefaultKubeletClientGetUsages, CertificateStore: store,
	})
	if err != nil {
		return fmt.Errorf("manage the agent's certificate: %w", err)
	}
	m.sup.Start("agent certificate", stageRest, func(ctx context.Context) error {
		manager.Start()
		<-ctx.Done()
		manager.Stop()
		return nil
	})
	if err := waitCertificate(ctx, manager); err != nil {
		return err
	}
	pem := store.CurrentPath()
	return m.writeKubeconfig(m.cfg.data("pki", "agent.kubeconfig"), &clientcmdapi.AuthInfo{ClientCertificate: pem, ClientKey: pem})
}

func waitCertificate(ctx context.Context, manager certificate.Manager) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for manager.Current() == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("get the agent's certificate: %w; look for certificatesigningrequests that nobody has approved", context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}
