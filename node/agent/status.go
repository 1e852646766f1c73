// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"slipway.dev/slipway/cni/firewall"
)

// Health is the state of one part in words.
type Health struct {
	Name string
	OK   bool
	Says string
	// Do is what helps when it is not OK.
	Do string
}

// Health asks every part.
func (a *Agent) Health() []Health {
	return []Health{a.datapathHealth(), a.tables.health(), a.proxyHealth(), a.networkHealth(), a.firewallHealth(), a.volumesHealth(), a.ingressHealth()}
}

// sockHooks is how many socket hooks the data path has when it is whole.
const sockHooks = 9

func (a *Agent) datapathHealth() Health {
	h := Health{Name: "data path", Do: "run `slipway check`; a restart attaches what is missing"}
	s, err := a.datapath.Summary()
	switch {
	case err != nil:
		h.Says = err.Error()
	case s.Sock < sockHooks:
		h.Says = fmt.Sprintf("only %d of %d socket hooks are attached", s.Sock, sockHooks)
	default:
		h.OK = true
		h.Says = fmt.Sprintf("%d socket hooks, %d pod interfaces, %d uplinks%s", s.Sock, s.Pods, len(s.Uplinks), uplinkModes(s.Uplinks))
		var drops []string
		for reason, n := range s.Drops {
			if n > 0 {
				drops = append(drops, fmt.Sprintf("%s %d", reason, n))
			}
		}
		slices.Sort(drops)
		if len(drops) > 0 {
			h.Says += "; packets dropped: " + strings.Join(drops, ", ")
		}
	}
	return h
}

// uplinkModes says which programs each uplink has.
func uplinkModes(uplinks map[int]bool) string {
	var out []string
	for index, xdp := range uplinks {
		name := fmt.Sprintf("interface %d", index)
		if dev, err := net.InterfaceByIndex(index); err == nil {
			name = dev.Name
		}
		mode := "tcx"
		if xdp {
			mode = "XDP and tcx"
		}
		out = append(out, name+" "+mode)
	}
	if len(out) == 0 {
		return ""
	}
	slices.Sort(out)
	return " (" + strings.Join(out, ", ") + ")"
}

func (a *Agent) proxyHealth() Health {
	if !a.proxy.Synced() {
		return Health{Name: "service proxy", Says: "has not read all Services yet", Do: "look for API errors in the log"}
	}
	frontends, backends := a.proxy.Stats()
	if err := a.proxy.Err(); err != nil {
		return Health{Name: "service proxy", Says: err.Error(), Do: "the rest is served; look for the names of all in the log"}
	}
	return Health{Name: "service proxy", OK: true, Says: fmt.Sprintf("%d frontends, %d backends", frontends, backends)}
}

func (a *Agent) networkHealth() Health {
	n := a.network.Load()
	if n == nil {
		return Health{Name: "pod network", Says: "the node has no pod CIDRs yet", Do: "slipway kubectl describe node " + a.cfg.NodeName}
	}
	if err := n.server.Ready(); err != nil {
		return Health{Name: "pod network", Says: err.Error(), Do: "look for cni errors in the log"}
	}
	return Health{Name: "pod network", OK: true, Says: fmt.Sprintf("serves pods, gateways %v", n.gateways)}
}

func (a *Agent) firewallHealth() Health {
	places, err := a.firewall.State()
	switch {
	case errors.Is(err, firewall.ErrOwned):
		return Health{Name: "firewall", Says: err.Error(), Do: "have firewalld share its table: NftablesTableOwner=no in /etc/firewalld/firewalld.conf, then restart it"}
	case err != nil:
		return Health{Name: "firewall", Says: fmt.Sprintf("packets that are forwarded from and to pods may be dropped: %v", err), Do: "install iptables and nftables, or have the firewall accept what comes in and leaves by interfaces slw*"}
	case len(places) == 0:
		return Health{Name: "firewall", OK: true, Says: "the host drops nothing that it forwards"}
	}
	return Health{Name: "firewall", OK: true, Says: "forwarded packets of pods are accepted in " + strings.Join(places, ", ")}
}

func (a *Agent) volumesHealth() Health {
	volumes, err := a.volumes.Volumes()
	if err != nil {
		return Health{Name: "volumes", Says: err.Error(), Do: "look for csi errors in the log"}
	}
	attached := 0
	for _, v := range volumes {
		if v.Attached {
			attached++
		}
	}
	return Health{Name: "volumes", OK: true, Says: fmt.Sprintf("%d volumes, %d attached", len(volumes), attached)}
}

func (a *Agent) ingressHealth() Health {
	if err := a.ingress.Ready(); err != nil {
		return Health{Name: "ingress", Says: err.Error(), Do: "look for ingress errors in the log"}
	}
	return Health{Name: "ingress", OK: true, Says: fmt.Sprintf("listens on ports %d and %d", a.cfg.HTTPPort, a.cfg.HTTPSPort)}
}
