// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/node/host"
	"slipway.dev/slipway/node/pki"
)

// The networks are those that Slipway has by default.
const (
	podCIDRs     = "10.244.0.0/16,fd00:10:244::/48"
	serviceCIDRs = "10.96.0.0/16,fd00:10:96::/112"
	apiServer    = "https://127.0.0.1:6443"
	etcdSocket   = "unix://" + peerRun + "/etcd/client.sock"
)

func pkiPath(name string) string { return filepath.Join(peerDir, "pki", name) }

// makeCertificates makes the certificates that Slipway has, too, and an
// identity for kube-proxy.
func makeCertificates() error {
	names := []string{"localhost", "127.0.0.1", "::1", sandbox.Hostname, sandbox.Address4, sandbox.Address6,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.96.0.1", "fd00:10:96::1"}
	cluster := pki.Cluster{
		Dir: filepath.Join(peerDir, "pki"), Server: apiServer, NodeName: sandbox.Hostname, Hosts: names,
		NodeHosts: []string{sandbox.Hostname, sandbox.Address4, sandbox.Address6}, AdminKubeconfig: pkiPath("admin.kubeconfig"),
	}
	if err := cluster.Ensure(); err != nil {
		return err
	}
	ca, err := pki.LoadAuthority(cluster.Dir, "ca")
	if err != nil {
		return err
	}
	const user = "system:kube-proxy"
	pair, err := ca.Ensure(cluster.Dir, "client-proxy", pki.Request{CommonName: user})
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["peer"] = &clientcmdapi.Cluster{Server: apiServer, CertificateAuthorityData: ca.PEM()}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Cert, ClientKeyData: pair.Key}
	config.Contexts["peer"] = &clientcmdapi.Context{Cluster: "peer", AuthInfo: user}
	config.CurrentContext = "peer"
	return clientcmd.WriteToFile(*config, pkiPath("proxy.kubeconfig"))
}

// arguments are those of each program. What is a choice is as in Slipway:
// authorization, addresses, rates of requests; what is not needed is left out.
func arguments() map[string][]string {
	return map[string][]string{
		"etcd": {
			"--name=peer", "--data-dir=" + peerDir + "/etcd", "--log-level=warn",
			"--listen-client-urls=" + etcdSocket, "--advertise-client-urls=" + etcdSocket,
			"--listen-peer-urls=" + etcdPeer, "--initial-advertise-peer-urls=" + etcdPeer,
			"--initial-cluster=peer=" + etcdPeer,
		},
		"kube-apiserver": apiServerArguments(),
		"kube-controller-manager": {
			"--kubeconfig=" + pkiPath("controller-manager.kubeconfig"),
			"--authentication-kubeconfig=" + pkiPath("controller-manager.kubeconfig"),
			"--authorization-kubeconfig=" + pkiPath("controller-manager.kubeconfig"),
			"--leader-elect=false",
			"--use-service-account-credentials=true",
			"--allocate-node-cidrs=true",
			"--cluster-cidr=" + podCIDRs,
			"--service-cluster-ip-range=" + serviceCIDRs,
			"--cluster-signing-cert-file=" + pkiPath("ca.crt"),
			"--cluster-signing-key-file=" + pkiPath("ca.key"),
			"--root-ca-file=" + pkiPath("ca.crt"),
			"--service-account-private-key-file=" + pkiPath("service-account.key"),
			"--kube-api-qps=400", "--kube-api-burst=800",
		},
		"kube-scheduler": {
			"--kubeconfig=" + pkiPath("scheduler.kubeconfig"),
			"--authentication-kubeconfig=" + pkiPath("scheduler.kubeconfig"),
			"--authorization-kubeconfig=" + pkiPath("scheduler.kubeconfig"),
			"--leader-elect=false",
		},
		"kubelet": {
			"--kubeconfig=" + pkiPath("kubelet.kubeconfig"),
			"--config=" + peerDir + "/kubelet.yaml",
			"--hostname-override=" + sandbox.Hostname,
			"--node-ip=" + sandbox.Address4 + "," + sandbox.Address6,
		},
		"kube-proxy": {
			"--config=" + peerDir + "/kube-proxy.yaml",
			"--hostname-override=" + sandbox.Hostname,
		},
	}
}

const etcdPeer = "unix://" + peerRun + "/etcd/peer.sock"

func apiServerArguments() []string {
	return []string{
		"--etcd-servers=" + etcdSocket,
		"--bind-address=::",
		"--advertise-address=" + sandbox.Address4,
		"--service-cluster-ip-range=" + serviceCIDRs,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--tls-cert-file=" + pkiPath("apiserver.crt"),
		"--tls-private-key-file=" + pkiPath("apiserver.key"),
		"--client-ca-file=" + pkiPath("ca.crt"),
		"--kubelet-certificate-authority=" + pkiPath("ca.crt"),
		"--kubelet-client-certificate=" + pkiPath("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + pkiPath("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname,ExternalIP",
		"--requestheader-client-ca-file=" + pkiPath("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pkiPath("front-proxy-client.crt"),
		"--proxy-client-key-file=" + pkiPath("front-proxy-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pkiPath("service-account.pub"),
		"--service-account-signing-key-file=" + pkiPath("service-account.key"),
	}
}

// writeConfigs writes the files that the programs read.
func writeConfigs() error {
	for path, text := range map[string]string{
		peerDir + "/containerd.toml":       fmt.Sprintf(containerdConfig, !host.MayLowerOOMScore()),
		peerDir + "/kubelet.yaml":          fmt.Sprintf(kubeletConfig, host.OOMScore()),
		peerDir + "/kube-proxy.yaml":       fmt.Sprintf(proxyConfig, host.OOMScore()),
		cniConfDir + "/10-bridge.conflist": bridgeConfig,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
