// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Service is a port of the node that pods connect to.
type Service struct {
	Name     string
	Protocol string
	Port     uint16
}

// Cut is a firewall that keeps pods from services of their node.
type Cut struct {
	// Where is the chain that drops.
	Where string
	// Services cannot be reached.
	Services []Service
	// Do is the command that lets pods through.
	Do string
}

// InputCuts finds the firewalls that drop what comes in by an interface to a service
// of this node, in the namespace of the calling thread. It judges only what it
// understands: a rule with a match that it does not know drops nothing here, and
// accepts what it might accept.
func InputCuts(ctx context.Context, device string, pods []netip.Prefix, services []Service) ([]Cut, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	var cuts []Cut
	for _, t := range tools {
		texts, err := t.texts(ctx, conn)
		if err != nil {
			return nil, err
		}
		for command, text := range texts {
			if lost := cutOff(text, t.packets(device, pods, services)); len(lost) > 0 {
				cuts = append(cuts, Cut{command + " filter INPUT", lost, iptablesAdvice(command, text, device)})
			}
		}
	}
	others, err := nativeCuts(ctx, conn, device, pods, services)
	return append(cuts, others...), err
}

// iptablesAdvice is a line for the program that the administrator writes rules with.
func iptablesAdvice(command, text, device string) string {
	if strings.Contains(text, "-N ufw-before-input") {
		return "ufw allow in on " + device
	}
	return fmt.Sprintf("%s -I INPUT -i %s -j ACCEPT", command, device)
}

// texts returns what the programs of a family print of their tables filter, by the
// name of the program; only of tables that there are.
func (t tool) texts(ctx context.Context, conn *nftables.Conn) (map[string]string, error) {
	texts := map[string]string{}
	legacy, err := t.filters()
	if err != nil {
		return nil, fmt.Errorf("list tables of %s: %w", t.command, err)
	}
	if legacy {
		if path, err := t.find(ctx); err == nil {
			texts[t.command+"-legacy"] = list(ctx, path)
		}
	}
	if table, err := conn.ListTableOfFamily("filter", t.family()); err == nil && table != nil {
		texts[t.command+"-nft"] = list(ctx, t.command+"-nft")
	}
	return texts, nil
}

func (t tool) family() nftables.TableFamily {
	if t.command == "iptables" {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

// list returns nothing where the program cannot be run: then nothing is known.
func list(ctx context.Context, command string) string {
	out, err := exec.CommandContext(ctx, command, "-t", "filter", "-S").Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// packets are the first packets of connections from a pod to each service.
func (t tool) packets(device string, pods []netip.Prefix, services []Service) []packet {
	name, _ := prefix(device)
	var all []packet
	for _, cidr := range pods {
		if cidr.Addr().Is4() != (t.command == "iptables") {
			continue
		}
		for _, s := range services {
			all = append(all, packet{service: s, device: name + "00000000", source: cidr.Addr().Next().Next()})
		}
	}
	return all
}

// cutOff returns the services whose packets the chain INPUT drops.
func cutOff(text string, packets []packet) []Service {
	rules := parse(text)
	var lost []Service
	for _, p := range packets {
		if rules.judge("INPUT", p, 0) == drop {
			lost = append(lost, p.service)
		}
	}
	return lost
}

// nativeCuts looks at chains that iptables has not made. Of these only the policy,
// a last rule that refuses, and whether any rule names pods are understood.
func nativeCuts(ctx context.Context, conn *nftables.Conn, device string, pods []netip.Prefix, services []Service) ([]Cut, error) {
	var cuts []Cut
	for _, family := range families {
		chains, err := conn.ListChainsOfTableFamily(family)
		if err != nil {
			continue
		}
		for _, c := range chains {
			if c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookInput || (c.Table.Name == "filter" && c.Name == "INPUT") {
				continue
			}
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return cuts, fmt.Errorf("list rules of %s: %w", describe(c), err)
			}
			if !refusesLast(c, rules) || namesDevice(rules, device) {
				continue
			}
			cut := Cut{describe(c), services, fmt.Sprintf("nft insert rule %s iifname %q accept", describe(c), strings.Replace(device, "+", "*", 1))}
			if c.Table.Name == "firewalld" {
				if trusts(ctx, device, pods) {
					continue
				}
				cut.Do = fmt.Sprintf("firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --reload", device)
			}
			cuts = append(cuts, cut)
		}
	}
	return cuts, nil
}

// refusesLast tells whether what no rule of the chain accepts is refused.
func refusesLast(c *nftables.Chain, rules []*nftables.Rule) bool {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return true
	}
	if len(rules) == 0 {
		return false
	}
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Cmp, *expr.Lookup:
			return false
		case *expr.Verdict:
			return e.Kind == expr.VerdictDrop
		case *expr.Reject:
			return true
		}
	}
	return false
}

// namesDevice tells whether a rule is about the interface, whatever it does.
func namesDevice(rules []*nftables.Rule, device string) bool {
	name := string(compared(device))
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Cmp); ok && string(c.Data) == name {
				return true
			}
		}
	}
	return false
}

// trusts tells whether firewalld takes pods for trusted. Where it cannot be asked it
// does not run, and its rules are not what they seem.
func trusts(ctx context.Context, device string, pods []netip.Prefix) bool {
	ask := func(what string) ([]string, bool) {
		out, err := exec.CommandContext(ctx, "firewall-cmd", "--zone=trusted", what).Output()
		return strings.Fields(string(out)), err == nil
	}
	interfaces, ok := ask("--list-interfaces")
	if !ok {
		return false
	}
	for _, name := range interfaces {
		if name == device {
			return true
		}
	}
	sources, _ := ask("--list-sources")
	for _, cidr := range pods {
		if !within(sources, cidr) {
			return false
		}
	}
	return len(pods) > 0
}

func within(sources []string, cidr netip.Prefix) bool {
	for _, text := range sources {
		if source, err := netip.ParsePrefix(text); err == nil && source.Bits() <= cidr.Bits() && source.Contains(cidr.Addr()) {
			return true
		}
	}
	return false
}
