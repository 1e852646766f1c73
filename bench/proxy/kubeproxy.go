// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/node/host"
)

// kubeProxy is upstream's program with its defaults. Connection tracking is left
// as it is: its limits belong to the machine.
func kubeProxy(name, kubeconfig string) (*exec.Cmd, error) {
	mode := map[string]string{iptables: "iptables", nftables: "nftables"}[name]
	config := filepath.Join(filepath.Dir(kubeconfig), mode+".yaml")
	text := fmt.Sprintf(kubeProxyConfig, mode, kubeconfig, podCIDR, host.OOMScore())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(sandbox.Programs, "peers", "kube-proxy"), "--config="+config, "--hostname-override="+nodeName)
	if name != iptables {
		return cmd, nil
	}
	tools, err := legacyTools(filepath.Dir(kubeconfig))
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
	return cmd, err
}

// legacy is what iptables is on kernels' old interface, in one program.
const legacy = "xtables-legacy-multi"

// legacyTools makes a directory with iptables on the old interface of the kernel.
// The other one, on nf_tables, does not get done with ten thousand Services in
// minutes.
func legacyTools(dir string) (string, error) {
	program, err := exec.LookPath(legacy)
	if err != nil {
		return "", fmt.Errorf("kube-proxy in iptables mode: %w", err)
	}
	tools := filepath.Join(dir, "legacy")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, tool := range []string{"", "-save", "-restore"} {
			err := os.Symlink(program, filepath.Join(tools, family+tool))
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return "", err
			}
		}
	}
	return tools, nil
}

const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
oomScoreAdj: %d
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
