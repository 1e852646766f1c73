// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/roottest"
)

// hosts are firewalls as they are found on machines: what sets them up, and what
// takes our rules away, as their restart does.
var hosts = []struct {
	name, setUp, restart string
	// places is where rules must be.
	places []string
}{
	{
		"policy of iptables-nft",
		`for i in iptables ip6tables; do $i-nft -P FORWARD DROP; $i-nft -A FORWARD -i docker9 -j ACCEPT; done`,
		`for i in iptables ip6tables; do $i-nft -F FORWARD; $i-nft -A FORWARD -i docker9 -j ACCEPT; done`,
		[]string{"ip filter FORWARD", "ip6 filter FORWARD"},
	},
	{
		"policy of iptables-legacy",
		`for i in iptables ip6tables; do $i-legacy -P FORWARD DROP; $i-legacy -A FORWARD -i docker9 -j ACCEPT; done`,
		`for i in iptables ip6tables; do $i-legacy -F FORWARD; $i-legacy -A FORWARD -i docker9 -j ACCEPT; done`,
		[]string{"iptables-legacy filter FORWARD", "ip6tables-legacy filter FORWARD"},
	},
	{
		"iptables-nft and iptables-legacy at once",
		`for i in iptables ip6tables; do $i-legacy -P FORWARD DROP; $i-nft -P FORWARD DROP; done`,
		`for i in iptables ip6tables; do $i-legacy -F; $i-legacy -X; $i-nft -F; $i-nft -X; done`,
		[]string{"ip filter FORWARD", "ip6 filter FORWARD", "iptables-legacy filter FORWARD", "ip6tables-legacy filter FORWARD"},
	},
	{
		// moby 28, iptables.go: -P FORWARD DROP, and at each start its chains go
		// to the top again.
		"Docker",
		`for i in iptables-nft ip6tables-nft; do
			$i -N DOCKER; $i -N DOCKER-USER; $i -N DOCKER-FORWARD; $i -N DOCKER-BRIDGE; $i -P FORWARD DROP
			$i -A DOCKER ! -i docker0 -o docker0 -j DROP; $i -A DOCKER-BRIDGE -o docker0 -j DOCKER
			$i -A DOCKER-FORWARD -j DOCKER-BRIDGE; $i -A DOCKER-FORWARD -i docker0 -j ACCEPT
			$i -I FORWARD -j DOCKER-FORWARD; $i -I FORWARD -j DOCKER-USER
		done`,
		`for i in iptables-nft ip6tables-nft; do
			$i -D FORWARD -j DOCKER-FORWARD; $i -D FORWARD -j DOCKER-USER
			$i -I FORWARD -j DOCKER-FORWARD; $i -I FORWARD -j DOCKER-USER
		done`,
		[]string{"ip filter FORWARD", "ip6 filter FORWARD"},
	},
	{
		// A rule at the end in place of a policy, as RHEL and Oracle's images have.
		"REJECT at the end",
		`iptables-nft -A FORWARD -j REJECT --reject-with icmp-host-prohibited; ip6tables-nft -A FORWARD -j REJECT`,
		`iptables-nft -D FORWARD -j SLIPWAY-FORWARD; ip6tables-nft -D FORWARD -j SLIPWAY-FORWARD`,
		[]string{"ip filter FORWARD", "ip6 filter FORWARD"},
	},
	{
		"the administrator's nftables.conf",
		`nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; iifname "docker9" accept; }; }'`,
		`nft 'flush ruleset; table inet filter { chain forward { type filter hook forward priority 0; policy drop; iifname "docker9" accept; }; }'`,
		[]string{"inet filter forward"},
	},
	{
		// moby 29 with --firewall-backend=nftables, issue 50566; a restart of the
		// daemon makes its tables anew.
		"Docker's nftables", dockerNFT, dockerNFT, []string{"ip docker-bridges filter-FORWARD", "ip6 docker-bridges filter-FORWARD"},
	},
	{
		// As firewalld 1.3 writes it, with less in it.
		"firewalld", firewalld, "nft delete table inet firewalld\n" + firewalld,
		[]string{"inet firewalld filter_FORWARD"},
	},
}

const dockerNFT = `for family in ip ip6; do
	nft "table $family docker-bridges; delete table $family docker-bridges; table $family docker-bridges {
		chain out { drop; }
		chain filter-FORWARD { type filter hook forward priority 0; policy drop; iifname docker9 accept; oifname docker9 jump out; }
	}"
done`

const firewalld = `nft 'table inet firewalld {
	chain filter_FORWARD_ZONES { iifname "docker9" accept; }
	chain filter_FORWARD {
		type filter hook forward priority 10; policy accept;
		ct state { established, related } accept
		iifname "lo" accept
		jump filter_FORWARD_ZONES
		ct state invalid drop
		reject with icmpx admin-prohibited
	}
}'`

func TestRootForward(t *testing.T) {
	roottest.Require(t)
	for _, host := range hosts {
		t.Run(host.name, func(t *testing.T) {
			l := newLab(t)
			l.connected("before there is a firewall")
			l.run(host.setUp)
			before := l.rules()
			l.refused("before", l.pod, l.out)
			k, stop := l.keep()
			l.connected("with rules")
			if places, err := k.State(); err != nil || cmp.Diff(host.places, places) != "" {
				t.Errorf("rules are in %v (error %v), want %v", places, err, host.places)
			}
			l.refused("somebody else", l.alo, l.out)
			l.run(host.restart)
			l.connected("after a restart of the firewall")
			roottest.Eventually(t, putBack, func() error { return l.first(host.places) })
			l.refused("somebody else after a restart", l.alo, l.out)
			stop()
			for range 2 { // The second has nothing to do.
				if err := Remove(l.path()); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(before, l.rules()); diff != "" {
				t.Errorf("rules after removal (-want +got):\n%s", diff)
			}
			l.refused("after removal", l.pod, l.out)
		})
	}
}

// first returns an error unless our jump is the first rule of all places.
func (l *lab) first(places []string) error {
	for _, place := range places {
		// Above the first rule are the table, the chain and its hook.
		command, number := "nft -s list chain "+place, 3
		if tool, _, legacy := strings.Cut(place, "-legacy "); legacy {
			command, number = tool+"-legacy -S FORWARD", 1
		}
		lines := strings.Split(l.run(command+" 2>/dev/null"), "\n")
		if len(lines) <= number || !strings.HasSuffix(lines[number], chainName) {
			return fmt.Errorf("%s: our jump is not the first rule: %q", place, lines)
		}
	}
	return nil
}

// TestRootForwardLeavesOthersAlone has hosts that drop nothing.
func TestRootForwardLeavesOthersAlone(t *testing.T) {
	roottest.Require(t)
	for name, setUp := range map[string]string{
		"no rules at all":       ``,
		"empty chains":          `iptables-nft -A INPUT -i lo -j ACCEPT; ip6tables-legacy -A INPUT -i lo -j ACCEPT`,
		"kube-proxy's nftables": `nft 'table ip kube-proxy { chain check { reject; }; chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump check; }; }'`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.run(setUp)
			before := l.rules()
			k := New(Config{Interfaces: []string{"slw+"}, NetNS: l.path()})
			if err := inside(l.path(), func() error { return k.set(t.Context()) }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, l.rules()); diff != "" {
				t.Errorf("rules changed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRootForwardIsReadByIptables sees that iptables-nft understands our rules: it
// refuses to work on a table with expressions that it does not know.
func TestRootForwardIsReadByIptables(t *testing.T) {
	l := newLab(t)
	l.run("iptables-nft -P FORWARD DROP")
	l.keep()
	l.connected4()
	want := "-N SLIPWAY-FORWARD\n-A SLIPWAY-FORWARD -i slw+ -j ACCEPT\n-A SLIPWAY-FORWARD -o slw+ -j ACCEPT\n" +
		"-A SLIPWAY-FORWARD -i slipway0 -j ACCEPT\n-A SLIPWAY-FORWARD -o slipway0 -j ACCEPT\n"
	if diff := cmp.Diff(want, l.run("iptables-nft -S SLIPWAY-FORWARD")); diff != "" {
		t.Errorf("iptables-nft reads (-want +got):\n%s", diff)
	}
	if got := l.run("iptables-nft -S FORWARD"); got != "-P FORWARD DROP\n-A FORWARD -j SLIPWAY-FORWARD\n" {
		t.Errorf("iptables-nft reads %q", got)
	}
	// And it can save and restore them.
	l.run("iptables-nft-save | iptables-nft-restore")
	l.connected4()
}

func (l *lab) connected4() {
	l.t.Helper()
	roottest.Eventually(l.t, putBack, func() error { return l.dial(l.pod, l.out, l.out.addrs[0], putBack) })
}

// TestRootForwardGoesWithItsReason takes the rules away when the host drops
// nothing any more.
func TestRootForwardGoesWithItsReason(t *testing.T) {
	l := newLab(t)
	l.run("iptables-nft -N OTHER")
	before := l.rules()
	l.run("iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP")
	l.keep()
	l.connected4()
	l.run("iptables-nft -P FORWARD ACCEPT; iptables-legacy -P FORWARD ACCEPT")
	roottest.Eventually(t, putBack, func() error {
		if got := l.rules(); strings.Contains(got, chainName) {
			return fmt.Errorf("our chain is there still, before it was:\n%s\nnow:\n%s", before, got)
		}
		return nil
	})
}

// TestRootInputCuts has hosts that keep pods from their node, and finds what to do.
func TestRootInputCuts(t *testing.T) {
	roottest.Require(t)
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}
	services := []Service{{"API server", "tcp", 6443}}
	for name, c := range map[string]struct {
		rules string
		want  []Cut
	}{
		"none":             {``, nil},
		"accepting chains": {`iptables-nft -A INPUT -i lo -j ACCEPT; ip6tables-legacy -A INPUT -i lo -j ACCEPT`, nil},
		"iptables-nft":     {`iptables-nft -P INPUT DROP`, []Cut{{"iptables-nft filter INPUT", services, "iptables-nft -I INPUT -i slw+ -j ACCEPT"}}},
		"iptables-legacy":  {`ip6tables-legacy -P INPUT DROP`, []Cut{{"ip6tables-legacy filter INPUT", services, "ip6tables-legacy -I INPUT -i slw+ -j ACCEPT"}}},
		"advice followed":  {`iptables-nft -P INPUT DROP; iptables-nft -I INPUT -i slw+ -j ACCEPT`, nil},
		"nftables.conf":    {`nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; iif lo accept; }; }'`, []Cut{{"inet filter input", services, `nft insert rule inet filter input iifname "slw*" accept`}}},
		"nft advice":       {`nft 'table inet filter { chain input { type filter hook input priority 0; policy drop; }; }'; nft insert rule inet filter input iifname '"slw*"' accept`, nil},
		"a port is closed": {`nft 'table inet t { chain input { type filter hook input priority 0; policy accept; tcp dport 25 reject; }; }'`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lab{t: t, node: roottest.NetNS(t)}
			l.run(c.rules)
			before := l.rules()
			err := inside(l.path(), func() error {
				got, err := InputCuts(t.Context(), "slw+", pods, services)
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("cuts (-want +got):\n%s", diff)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, l.rules()); diff != "" {
				t.Errorf("looking changed the rules (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRootForwardInTablesOfOthers has a table that only its maker may change, as
// firewalld of RHEL 9.5 makes it.
func TestRootForwardInTablesOfOthers(t *testing.T) {
	l := &lab{t: t, node: roottest.NetNS(t)}
	var owner *exec.Cmd
	roottest.In(t, l.node, func() error {
		owner = exec.Command("nft", "-i")
		input, err := owner.StdinPipe()
		if err != nil {
			return err
		}
		t.Cleanup(func() { input.Close(); _ = owner.Wait() })
		if err := owner.Start(); err != nil {
			return err
		}
		_, err = io.WriteString(input, "add table inet firewalld { flags owner; }\nadd chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n")
		return err
	})
	roottest.Eventually(t, putBack, func() error {
		if rules := l.rules(); !strings.Contains(rules, "policy drop") {
			return fmt.Errorf("no table yet: %s", rules)
		}
		return nil
	})
	l.run("iptables-nft -P FORWARD DROP")
	k, _ := l.keep()
	roottest.Eventually(t, putBack, func() error {
		places, err := k.State()
		if !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "inet firewalld") || !slices.Equal(places, []string{"ip filter FORWARD"}) {
			return fmt.Errorf("rules in %v, error %v", places, err)
		}
		return nil
	})
}
