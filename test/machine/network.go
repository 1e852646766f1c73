// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/vishvananda/netlink"
)

// links lists the interfaces and what is attached to them without BPF links.
func links() ([]string, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, link := range all {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	var out []string
	for _, link := range all {
		a := link.Attrs()
		line := fmt.Sprintf("%s type %s mtu %d", a.Name, link.Type(), a.MTU)
		if a.MasterIndex != 0 {
			line += " master " + names[a.MasterIndex]
		}
		if a.Alias != "" {
			line += " alias " + a.Alias
		}
		if a.Xdp != nil && a.Xdp.Attached {
			line += " with XDP"
		}
		out = append(out, line)
		queues, err := netlink.QdiscList(link)
		if err != nil {
			return nil, fmt.Errorf("queues of %s: %w", a.Name, err)
		}
		for _, q := range queues {
			out = append(out, a.Name+" queue "+q.Type())
		}
	}
	return out, nil
}

func addresses() ([]string, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, link := range all {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, addr := range addrs {
			out = append(out, link.Attrs().Name+" "+addr.IPNet.String())
		}
	}
	return out, nil
}

// routes lists routes of all tables, rules, and the neighbours that somebody
// has set; those that the kernel has learnt come and go by themselves.
func routes() ([]string, error) {
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for _, what := range [][]string{
			{"route", "show", "table", "all"}, {"rule", "show"},
			{"neigh", "show", "nud", "permanent"}, {"neigh", "show", "proxy"},
		} {
			data, err := exec.Command("ip", append([]string{"-o", family}, what...)...).Output()
			if err != nil {
				return nil, fmt.Errorf("ip %s %s: %w", family, strings.Join(what, " "), err)
			}
			for line := range strings.Lines(string(data)) {
				out = append(out, what[0]+" "+family+" "+withoutAge(line))
			}
		}
	}
	return out, nil
}

var age = regexp.MustCompile(` expires \d+sec`)

// withoutAge gives a line of ip(8) without what changes by itself, in one
// form of white space.
func withoutAge(line string) string {
	return strings.Join(strings.Fields(age.ReplaceAllString(line, "")), " ")
}

// firewall lists the rules of nftables and iptables. A program that is not
// installed has none.
func firewall() ([]string, error) {
	var out []string
	for _, command := range [][]string{{"nft", "list", "ruleset"}, {"iptables-save"}, {"ip6tables-save"}} {
		if _, err := exec.LookPath(command[0]); err != nil {
			continue
		}
		data, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command[0], err)
		}
		for line := range strings.Lines(string(data)) {
			if line := withoutCounters(line); line != "" {
				out = append(out, command[0]+": "+line)
			}
		}
	}
	return out, nil
}

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+|\[\d+:\d+\]`)

// withoutCounters gives a line of a rule set without counters; a comment
// gives an empty line.
func withoutCounters(line string) string {
	line = strings.TrimSpace(counters.ReplaceAllString(line, ""))
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return line
}
