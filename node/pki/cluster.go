// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"os"
	"path/filepath"

	clientcmd "k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/internal/atomicfile"
)

// Cluster says for whom the certificates of a control-plane node are made.
type Cluster struct {
	// Dir is where all files are kept.
	Dir string
	// Server is the URL that local clients use to reach the API server.
	Server string
	// NodeName is the name of the node, as in the API.
	NodeName string
	// Hosts are the names and addresses of the API server.
	Hosts []string
	// NodeHosts are the names and addresses of the node's kubelet.
	NodeHosts []string
	// AdminKubeconfig is where the administrator's kubeconfig goes.
	AdminKubeconfig string
}

// client is an identity that gets a kubeconfig of its own.
type client struct {
	name string
	file string
	req  Request
}

// Ensure makes all that is missing or about to expire, and leaves the rest
// as it is.
func (c Cluster) Ensure() error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	ca, err := LoadAuthority(c.Dir, "ca")
	if err != nil {
		return err
	}
	front, err := LoadAuthority(c.Dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := EnsureKey(c.Dir, "service-account"); err != nil {
		return err
	}
	if _, err := front.Ensure(c.Dir, "front-proxy-client", Request{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	for name, req := range c.leaves() {
		if _, err := ca.Ensure(c.Dir, name, req); err != nil {
			return err
		}
	}
	if err := c.chain(ca); err != nil {
		return err
	}
	for _, cl := range c.clients() {
		if err := c.kubeconfig(ca, cl); err != nil {
			return err
		}
	}
	return nil
}

// chain writes the certificate of the API server with that of its authority:
// a machine that joins knows the cluster by the latter.
func (c Cluster) chain(ca *Authority) error {
	leaf, err := os.ReadFile(c.Path("apiserver.crt"))
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	return atomicfile.Write(c.Path("apiserver-chain.crt"), append(leaf, ca.PEM()...), 0o644)
}

// Path returns the full path of a file in the certificate directory.
func (c Cluster) Path(name string) string { return filepath.Join(c.Dir, name) }

func (c Cluster) leaves() map[string]Request {
	return map[string]Request{
		"apiserver":                {CommonName: "kube-apiserver", Hosts: c.Hosts},
		"apiserver-kubelet-client": {CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}},
		"metrics-server":           {CommonName: "metrics-server", Hosts: []string{"metrics-server.kube-system.svc"}},
		"kubelet-server": {
			CommonName: "system:node:" + c.NodeName, Organizations: []string{"system:nodes"}, Hosts: c.NodeHosts,
		},
	}
}

func (c Cluster) clients() []client {
	return []client{
		{"admin", c.AdminKubeconfig, Request{CommonName: "slipway-admin", Organizations: []string{"system:masters"}}},
		{"controller-manager", c.Path("controller-manager.kubeconfig"), Request{CommonName: "system:kube-controller-manager"}},
		{"scheduler", c.Path("scheduler.kubeconfig"), Request{CommonName: "system:kube-scheduler"}},
		{"kubelet", c.Path("kubelet.kubeconfig"), Request{
			CommonName: "system:node:" + c.NodeName, Organizations: []string{"system:nodes"},
		}},
		{"server", c.Path("server.kubeconfig"), Request{CommonName: "slipway-server", Organizations: []string{"system:masters"}}},
		{"agent", c.Path("agent.kubeconfig"), Request{CommonName: "slipway:agent:" + c.NodeName, Organizations: []string{"slipway:agents"}}},
	}
}

// kubeconfig writes a self-contained kubeconfig; the key pair that it embeds
// is kept in the certificate directory too, so that it is only renewed when
// due.
func (c Cluster) kubeconfig(ca *Authority, cl client) error {
	pair, err := ca.Ensure(c.Dir, "client-"+cl.name, cl.req)
	if err != nil {
		return err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["slipway"] = &clientcmdapi.Cluster{Server: c.Server, CertificateAuthorityData: ca.PEM()}
	cfg.AuthInfos[cl.req.CommonName] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pair.Cert, ClientKeyData: pair.Key,
	}
	cfg.Contexts["slipway"] = &clientcmdapi.Context{Cluster: "slipway", AuthInfo: cl.req.CommonName}
	cfg.CurrentContext = "slipway"
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("encode kubeconfig %s: %w", cl.file, err)
	}
	if err := os.MkdirAll(filepath.Dir(cl.file), 0o755); err != nil {
		return fmt.Errorf("make directory for kubeconfig: %w", err)
	}
	return atomicfile.Write(cl.file, data, 0o600)
}
