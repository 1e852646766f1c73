// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	apiServer   = Service{"API server", "tcp", 6443}
	dnsUDP      = Service{"DNS", "udp", 53}
	allServices = []Service{apiServer, dnsUDP}
)

func TestCutOff(t *testing.T) {
	ufw, err := os.ReadFile("testdata/ufw.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		rules string
		want  []Service
	}{
		"no rules":                   {"-P INPUT ACCEPT\n", nil},
		"policy":                     {"-P INPUT DROP\n", allServices},
		"policy, pods accepted":      {"-P INPUT DROP\n-A INPUT -i slw+ -j ACCEPT\n", nil},
		"policy, one port accepted":  {"-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 6443 -j ACCEPT\n", []Service{dnsUDP}},
		"policy, ports accepted":     {"-P INPUT DROP\n-A INPUT -p tcp -m multiport --dports 22,6000:7000 -j ACCEPT\n-A INPUT -p udp -m udp --dport 53 -j ACCEPT\n", nil},
		"policy, pod range accepted": {"-P INPUT DROP\n-A INPUT -s 10.244.0.0/16 -m comment --comment \"pods -j DROP\" -j ACCEPT\n", nil},
		"policy, other range":        {"-P INPUT DROP\n-A INPUT -s 192.168.0.0/16 -j ACCEPT\n", allServices},
		"policy, all but a device":   {"-P INPUT DROP\n-A INPUT ! -i eth0 -j ACCEPT\n", nil},
		"established only":           {"-P INPUT DROP\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", allServices},
		"RHEL's last rule":           {"-P INPUT ACCEPT\n-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n", allServices},
		"a match that is not known":  {"-P INPUT DROP\n-A INPUT -m set --match-set friends src -j ACCEPT\n", nil},
		"an unknown match drops":     {"-P INPUT ACCEPT\n-A INPUT -m recent --name ssh --rcheck -j DROP\n", nil},
		"kubelet's own chain":        {"-P INPUT ACCEPT\n-N KUBE-FIREWALL\n-A INPUT -j KUBE-FIREWALL\n-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n", nil},
		"return from a chain":        {"-P INPUT DROP\n-A INPUT -j ours\n-A ours -p udp -j RETURN\n-A ours -j ACCEPT\n", []Service{dnsUDP}},
		"ufw":                        {string(ufw), allServices},
		"ufw allow in on slw+":       {string(ufw) + "-A ufw-user-input -i slw+ -j ACCEPT\n", nil},
		"ufw allow from the range":   {string(ufw) + "-A ufw-user-input -s 10.244.0.0/16 -j ACCEPT\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			packets := tools[0].packets("slw+", []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/48")}, allServices)
			if diff := cmp.Diff(c.want, cutOff(c.rules, packets)); diff != "" {
				t.Errorf("cut off (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInputAdvice(t *testing.T) {
	if got := iptablesAdvice("iptables-nft", "-P INPUT DROP\n-N ufw-before-input\n", "slw+"); got != "ufw allow in on slw+" {
		t.Errorf("for ufw: %q", got)
	}
	if got := iptablesAdvice("ip6tables-legacy", "-P INPUT DROP\n", "slw+"); got != "ip6tables-legacy -I INPUT -i slw+ -j ACCEPT" {
		t.Errorf("for iptables: %q", got)
	}
}
