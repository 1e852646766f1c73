// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"net/netip"
	"strconv"
	"strings"
)

// packet opens a connection to a service of the node.
type packet struct {
	service Service
	device  string
	source  netip.Addr
}

// verdict is what becomes of a packet in a chain.
type verdict int

const (
	// goesOn is at the end of a chain that has not decided.
	goesOn verdict = iota
	accept
	drop
)

// answer is whether a rule matches a packet.
type answer int

const (
	no answer = iota
	yes
	perhaps
)

// chains are the rules of a table as `iptables -S` prints them.
type chains struct {
	policy map[string]string
	rules  map[string][][]string
}

// maxJumps bounds how deep chains lead to one another; the kernel allows no loops.
const maxJumps = 32

func parse(text string) chains {
	c := chains{policy: map[string]string{}, rules: map[string][][]string{}}
	for line := range strings.Lines(text) {
		words := split(line)
		switch {
		case len(words) == 3 && words[0] == "-P":
			c.policy[words[1]] = words[2]
		case len(words) > 2 && words[0] == "-A":
			c.rules[words[1]] = append(c.rules[words[1]], words[2:])
		}
	}
	return c
}

// split splits a line into words; those in quotes, as comments are, count as one.
func split(line string) []string {
	var words []string
	for i, part := range strings.Split(strings.ReplaceAll(line, `\"`, ""), `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// judge follows a packet through a chain and those that it leads to.
func (c chains) judge(chain string, p packet, depth int) verdict {
	if depth > maxJumps {
		return accept
	}
	for _, rule := range c.rules[chain] {
		matches, target := match(rule, p)
		if matches == no {
			continue
		}
		v := goesOn
		switch target {
		case "ACCEPT":
			v = accept
		case "DROP", "REJECT":
			v = drop
		case "RETURN":
			if matches == yes {
				return goesOn
			}
		default:
			v = c.judge(target, p, depth+1)
		}
		if v == accept || (v == drop && matches == yes) {
			return v
		}
	}
	switch c.policy[chain] {
	case "DROP":
		return drop
	case "ACCEPT":
		return accept
	}
	return goesOn
}

// match tells whether a rule matches, and its target.
func match(rule []string, p packet) (matches answer, target string) {
	matches = yes
	not := false
	for i := 0; i < len(rule); i++ {
		word, value := rule[i], ""
		if i+1 < len(rule) {
			value = rule[i+1]
		}
		switch word {
		case "!":
			not = true
			continue
		case "-j", "-g":
			return matches, value
		}
		found, known := matchOption(word, value, p)
		if !known {
			// Its values are skipped as options that are not known either.
			matches, not = both(matches, perhaps), false
			continue
		}
		if not && found != perhaps {
			found = yes - found
		}
		matches, not = both(matches, found), false
		i++
	}
	return matches, ""
}

func both(a, b answer) answer {
	if a == no || b == no {
		return no
	}
	return max(a, b)
}

// matchOption judges an option with one value.
func matchOption(option, value string, p packet) (found answer, known bool) {
	is := func(ok bool) (answer, bool) {
		if ok {
			return yes, true
		}
		return no, true
	}
	switch option {
	case "-m", "--comment":
		return yes, true
	case "-i":
		name, more := prefix(value)
		return is(p.device == name || (more && strings.HasPrefix(p.device, name)))
	case "-o":
		return no, true
	case "-p":
		return is(value == p.service.Protocol || value == "all")
	case "--dport", "--dports":
		return is(hasPort(value, p.service.Port))
	case "-s":
		return is(inRange(value, p.source))
	case "--state", "--ctstate":
		return is(strings.Contains(","+value+",", ",NEW,"))
	case "--dst-type":
		return is(value == "LOCAL" || value == "UNICAST")
	}
	return perhaps, false
}

// hasPort tells whether a list of ports and ranges has one.
func hasPort(list string, port uint16) bool {
	for item := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(item, ":")
		if !ranged {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && from <= int(port) && int(port) <= to {
			return true
		}
	}
	return false
}

func inRange(text string, addr netip.Addr) bool {
	cidr, err := netip.ParsePrefix(text)
	return err == nil && cidr.Contains(addr)
}
