// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// servicesChain is where kube-proxy's translation begins.
const servicesChain = "KUBE-SERVICES"

// ownChains are the chains that kube-proxy makes in modes iptables and ipvs, and
// ownPrefixes begin the names of those that it makes for Services and endpoints.
// KUBE-FIREWALL, KUBE-MARK-DROP, KUBE-IPTABLES-HINT and KUBE-KUBELET-CANARY are the
// kubelet's.
var (
	ownChains = []string{
		servicesChain, "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD",
		"KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL",
		"KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
	}
	ownPrefixes = []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-EXT-", "KUBE-SEP-"}
)

func isOwn(chain string) bool {
	return slices.Contains(ownChains, chain) ||
		slices.ContainsFunc(ownPrefixes, func(p string) bool { return strings.HasPrefix(chain, p) })
}

// rules is what kube-proxy has in a table of iptables.
type rules struct {
	table string
	// chains are its chains, sorted.
	chains []string
	// jumps are the rules that lead to them from built-in chains, as
	// iptables-save writes them.
	jumps []string
	// used are its chains that others' chains lead to, too; they stay.
	used []string
}

// parseRules reads what iptables-save has written of a table.
func parseRules(table string, saved []byte) rules {
	r := rules{table: table}
	builtIn := map[string]bool{}
	from := map[string][]string{} // the chains with rules that lead to a chain
	var jumps [][2]string         // rules of built-in chains, with where they lead
	lines := bufio.NewScanner(bytes.NewReader(saved))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, ":"), " "); ok && strings.HasPrefix(line, ":") {
			builtIn[name] = !strings.HasPrefix(rest, "-")
			if isOwn(name) {
				r.chains = append(r.chains, name)
			}
		}
		chain, target := parseRule(line)
		switch {
		case !isOwn(target):
		case builtIn[chain]:
			jumps = append(jumps, [2]string{line, target})
		default:
			from[target] = append(from[target], chain)
		}
	}
	r.keepUsed(from)
	for _, j := range jumps {
		if slices.Contains(r.chains, j[1]) {
			r.jumps = append(r.jumps, j[0])
		}
	}
	slices.Sort(r.chains)
	slices.Sort(r.used)
	return r
}

// keepUsed takes out the chains that are led to from chains that stay.
func (r *rules) keepUsed(from map[string][]string) {
	for again := true; again; {
		before := len(r.used)
		r.chains = slices.DeleteFunc(r.chains, func(chain string) bool {
			stays := slices.ContainsFunc(from[chain], func(f string) bool { return !isOwn(f) || slices.Contains(r.used, f) })
			if stays {
				r.used = append(r.used, chain)
			}
			return stays
		})
		again = len(r.used) > before
	}
}

// parseRule returns the chain of a rule and where it leads, both empty for a line
// that is none.
func parseRule(line string) (chain, target string) {
	words := strings.Fields(line)
	if len(words) < 4 || words[0] != "-A" {
		return "", ""
	}
	// A comment may hold anything, but what a rule does comes last.
	for i := len(words) - 2; i > 1; i-- {
		if words[i] == "-j" || words[i] == "-g" {
			return words[1], words[i+1]
		}
	}
	return words[1], ""
}

func (r rules) empty() bool { return len(r.chains) == 0 && len(r.jumps) == 0 }

// script is what iptables-restore removes them by, all at once. To name a chain
// empties it.
func (r rules) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", r.table)
	for _, chain := range r.chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
	}
	for _, jump := range r.jumps {
		fmt.Fprintf(&b, "-D%s\n", strings.TrimPrefix(jump, "-A"))
	}
	for _, chain := range r.chains {
		fmt.Fprintf(&b, "-X %s\n", chain)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
