// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/firewall"
	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/node/host"
	"slipway.dev/slipway/proxy/takeover"
)

// foreignConf is where other CNI plugins have their configuration.
const foreignConf = "/etc/cni/net.d"

// notes are what does not keep a node from starting.
func notes(ctx context.Context, cfg Config) []Check {
	var checks []Check
	for _, p := range optionalPrograms {
		checks = append(checks, p.note())
	}
	checks = append(checks, noteConntrack())
	checks = append(checks, noteNetworks(foreignConf)...)
	checks = append(checks, noteProxy(ctx)...)
	checks = append(checks, noteProcesses()...)
	if cut := cfg.checkInput(ctx, cfg.podServices()); cut.Note {
		checks = append(checks, cut)
	}
	return checks
}

// podServices are what pods connect to on their node: DNS is served on its address
// in the pod network, the others on its own.
func (c Config) podServices() []firewall.Service {
	return append(workerServices(), firewall.Service{Name: "API server", Protocol: "tcp", Port: c.APIPort})
}

// workerServices are those of a node without an API server.
func workerServices() []firewall.Service {
	return []firewall.Service{{Name: "DNS", Protocol: "udp", Port: 53}, {Name: "DNS", Protocol: "tcp", Port: 53}, {Name: "kubelet", Protocol: "tcp", Port: 10250}}
}

// checkInput tells whether the firewall of the host keeps pods from their node.
func (c Config) checkInput(ctx context.Context, services []firewall.Service) Check {
	const name = "pods to node"
	cuts, err := firewall.InputCuts(ctx, device.Prefix+"+", c.PodCIDRs, services)
	if err != nil {
		return note(name, fmt.Sprintf("the firewall of the host cannot be read: %v", err), "")
	}
	if len(cuts) == 0 {
		return Check{Name: name, OK: true, Says: "no rule of the host is seen to drop what pods send to it"}
	}
	var says, do []string
	for _, cut := range cuts {
		var lost []string
		for _, s := range cut.Services {
			lost = append(lost, fmt.Sprintf("%s (%s %d)", s.Name, strings.ToUpper(s.Protocol), s.Port))
		}
		says = append(says, fmt.Sprintf("%s drops what pods send to %s", cut.Where, strings.Join(lost, ", ")))
		if !slices.Contains(do, cut.Do) {
			do = append(do, cut.Do)
		}
	}
	return note(name, strings.Join(says, "; "), strings.Join(do, "; "))
}

// note is a check that something is good to know.
func note(name, says, do string) Check {
	return Check{Name: name, OK: true, Note: true, Says: says, Do: do}
}

// noteConntrack tells about the table of connections, which masquerade uses.
func noteConntrack() Check {
	kernel, err := host.OpenModules()
	if err != nil {
		return note("conntrack", err.Error(), "")
	}
	state, _ := kernel.State("nf_conntrack")
	if state == host.ModuleUnknown {
		if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max"); err == nil {
			state = host.ModuleBuiltIn
		}
	}
	return Check{Name: "conntrack", OK: true, Says: string(state)}
}

// noteNetworks names the configurations of other CNI plugins.
func noteNetworks(dir string) []Check {
	var found []string
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil {
			found = append(found, files...)
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return []Check{note("other pod networks", "CNI configuration of others: "+strings.Join(found, ", "),
		"nothing: this node has a directory of its own; if their network is still set up, its ranges must differ from --pod-cidr")}
}

// noteProxy tells about kube-proxy and what it has left behind.
func noteProxy(ctx context.Context) []Check {
	running, err := takeover.KubeProxies()
	if err == nil && len(running) > 0 {
		return []Check{note("kube-proxy", fmt.Sprintf("runs as process %d: its rules serve beside this node's data path, which is first", running[0].PID),
			"stop it, and run `slipway proxy cleanup` when the node is up")}
	}
	found, err := takeover.Find(ctx)
	if err != nil {
		return []Check{note("kube-proxy", fmt.Sprintf("its rules cannot be looked for: %v", err), "")}
	}
	if n := len(found.List()); n > 0 {
		return []Check{note("kube-proxy", fmt.Sprintf("%d of its chains, rules and tables are left on this machine", n),
			"see `slipway proxy cleanup --dry-run`, and run it without --dry-run when the node is up")}
	}
	return nil
}

// others are programs that want the same of a machine.
var others = map[string][2]string{
	"kubelet":  {"another kubelet", "stop it: two kubelets remove each other's pods"},
	"k3s":      {"k3s", "stop it: it is another cluster on this machine"},
	"k0s":      {"k0s", "stop it: it is another cluster on this machine"},
	"rke2":     {"RKE2", "stop it: it is another cluster on this machine"},
	"kubelite": {"MicroK8s", "stop it: it is another cluster on this machine"},
	"dockerd":  {"Docker", "nothing: what its firewall rules drop of pods' packets is accepted by a rule in front"},
}

// noteProcesses names such programs that run.
func noteProcesses() []Check {
	var checks []Check
	seen := map[string]bool{}
	_, err := process.FindOnNetwork(func(argv []string) bool {
		name := filepath.Base(argv[0])
		other, known := others[name]
		if known && !seen[name] {
			seen[name] = true
			checks = append(checks, note(other[0], "runs on this machine", other[1]))
		}
		return false
	})
	if err != nil {
		return []Check{note("other programs", err.Error(), "")}
	}
	return checks
}
