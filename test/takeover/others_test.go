// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/internal/roottest"
)

// other is another proxy. Its rules stay when it is stopped.
type other struct {
	start func(t *testing.T, l *lab)
	stop  func(t *testing.T)
}

// ruleset is a proxy that consists of rules alone, of the shape of kube-proxy's.
func ruleset(load func(t *testing.T, l *lab)) *other {
	return &other{start: load, stop: func(*testing.T) {}}
}

// kubeProxyPath is where `make peers` has kube-proxy.
const kubeProxyPath = "../../.build/peers/kube-proxy"

// kubeProxy is upstream's program in one of its modes.
func kubeProxy(t *testing.T, mode string) *other {
	t.Helper()
	program, err := filepath.Abs(kubeProxyPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Skipf("needs kube-proxy, which `make kube-proxy` builds: %v", err)
	}
	var id process.Identity
	return &other{
		start: func(t *testing.T, l *lab) { id = startKubeProxy(t, l, program, mode) },
		stop: func(t *testing.T) {
			if err := process.Stop(id, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		},
	}
}

const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: 10.244.0.0/16,fd00:244::/32
hostnameOverride: %s
iptables: {localhostNodePorts: false, minSyncPeriod: 100ms}
nftables: {minSyncPeriod: 100ms}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

func startKubeProxy(t *testing.T, l *lab, program, mode string) process.Identity {
	t.Helper()
	dir := t.TempDir()
	server := l.api(t)
	kubeconfig, config := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "config.yaml")
	if err := server.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeProxyConfig, mode, kubeconfig, nodeName), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--config="+config)
	cmd.Stdout, cmd.Stderr = log, log
	roottest.In(t, l.node, cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("kube-proxy: %s", text)
		}
	})
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// hasRules waits until another proxy's rules lead to all backends.
func (l *lab) hasRules(t *testing.T) {
	t.Helper()
	roottest.Eventually(t, 30*time.Second, func() error {
		rules := run(t, l.node, "", "nft", "list", "ruleset")
		for _, s := range l.services() {
			for _, b := range s.backends {
				for _, want := range []string{fmt.Sprint(s.nodePort()), b.v4, b.v6} {
					if !strings.Contains(rules, want) {
						return fmt.Errorf("no rule for %s of %s", want, s.name)
					}
				}
			}
		}
		return nil
	})
}

// iptablesRules loads rules as kube-proxy's mode iptables has them.
func iptablesRules(t *testing.T, l *lab) {
	t.Helper()
	for command, v6 := range map[string]bool{"iptables-nft-restore": false, "ip6tables-nft-restore": true} {
		run(t, l.node, l.iptablesScript(v6), command, "--noflush")
	}
}

func (l *lab) iptablesScript(v6 bool) string {
	var chains, rules strings.Builder
	for _, s := range l.services() {
		svc := "KUBE-SVC-" + strings.ToUpper(s.name)
		fmt.Fprintf(&chains, ":%s - [0:0]\n", svc)
		for _, network := range []string{"tcp", "udp"} {
			fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %s -p %s -m comment --comment \"a/%s cluster IP\" --dport 80 -j %s\n", s.clusterIP(v6), network, s.name, svc)
			if !s.local {
				fmt.Fprintf(&rules, "-A KUBE-NODEPORTS -p %s --dport %d -j KUBE-MARK-MASQ\n", network, s.nodePort())
			}
			fmt.Fprintf(&rules, "-A KUBE-NODEPORTS -p %s --dport %d -j %s\n", network, s.nodePort(), svc)
		}
		for i, b := range s.backends {
			sep := fmt.Sprintf("KUBE-SEP-%s%d", strings.ToUpper(s.name), i)
			fmt.Fprintf(&chains, ":%s - [0:0]\n", sep)
			choice := ""
			if left := len(s.backends) - i; left > 1 {
				choice = fmt.Sprintf("-m statistic --mode random --probability %f", 1/float64(left))
			}
			fmt.Fprintf(&rules, "-A %s %s -j %s\n", svc, choice, sep)
			fmt.Fprintf(&rules, "-A %s -s %s -j KUBE-MARK-MASQ\n", sep, b.addr(v6))
			for _, network := range []string{"tcp", "udp"} {
				fmt.Fprintf(&rules, "-A %s -p %s -j DNAT --to-destination %s\n", sep, network, b.at(v6, s.port))
			}
		}
	}
	return `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
` + chains.String() + `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
` + rules.String() + `-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
`
}

func (e endpoint) addr(v6 bool) string {
	if v6 {
		return e.v6
	}
	return e.v4
}

func (e endpoint) at(v6 bool, port int) string {
	if v6 {
		return fmt.Sprintf("[%s]:%d", e.v6, port)
	}
	return fmt.Sprintf("%s:%d", e.v4, port)
}

// nftRules loads rules as kube-proxy's mode nftables has them.
func nftRules(t *testing.T, l *lab) {
	t.Helper()
	for ip, v6 := range map[string]bool{"ip": false, "ip6": true} {
		run(t, l.node, l.nftScript(ip, v6), "nft", "-f", "-")
	}
}

func (l *lab) nftScript(ip string, v6 bool) string {
	var chains, clusterIPs, nodePorts strings.Builder
	for _, s := range l.services() {
		for _, network := range []string{"tcp", "udp"} {
			chain := s.name + "-" + network
			var choice []string
			for i, b := range s.backends {
				fmt.Fprintf(&chains, "chain endpoint-%s-%d {\n%s saddr %s meta mark set meta mark or 0x4000\nmeta l4proto %s dnat to %s\n}\n",
					chain, i, ip, b.addr(v6), network, b.at(v6, s.port))
				choice = append(choice, fmt.Sprintf("%d : goto endpoint-%s-%d", i, chain, i))
			}
			fmt.Fprintf(&chains, "chain service-%s {\nnumgen random mod %d vmap { %s }\n}\n", chain, len(s.backends), strings.Join(choice, ", "))
			mark := "meta mark set meta mark or 0x4000"
			if s.local {
				mark = ""
			}
			fmt.Fprintf(&chains, "chain external-%s {\n%s\ngoto service-%s\n}\n", chain, mark, chain)
			fmt.Fprintf(&clusterIPs, "%s . %s . 80 : goto service-%s,\n", s.clusterIP(v6), network, chain)
			fmt.Fprintf(&nodePorts, "%s . %d : goto external-%s,\n", network, s.nodePort(), chain)
		}
	}
	return fmt.Sprintf(`table %s kube-proxy {
%s
chain services {
	%[1]s daddr . meta l4proto . th dport vmap { %[3]s }
	fib daddr type local meta l4proto . th dport vmap { %[4]s }
}
chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
chain nat-output { type nat hook output priority -100; jump services; }
chain nat-postrouting {
	type nat hook postrouting priority srcnat
	meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
}
chain filter-forward { type filter hook forward priority 0; ct state invalid drop; }
}
`, ip, chains.String(), clusterIPs.String(), nodePorts.String())
}
