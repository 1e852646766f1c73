// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// page is what is written.
type page struct {
	results
	date  time.Time
	nodes []node
	// reasons are those of known failures, by a part of the test's name.
	reasons map[string]string
	// all are upstream's conformance tests when all must have run, missing
	// those of them that have not.
	all, missing []string
}

const preface = `# Conformance

This page is written by ` + "`make conformance`" + `, which builds upstream's end-to-end
tests and runs those that are tagged [Conformance] against a cluster of two nodes
on one machine, each with a kubelet, containerd and pods of its own. Tests that may
run together do so, the others follow one by one. No registry is needed: images are
made from upstream's sources and from Debian packages, where upstream's have Alpine
ones, under the names that the tests ask for; tests that pull although the node
has an image get it from a registry that serves the same images on the machine.

`

func (p page) render() string {
	var out strings.Builder
	out.WriteString(preface)
	p.renderFacts(&out)
	p.renderCounts(&out)
	fmt.Fprintf(&out, "\n%s\n", p.summary())
	p.renderRest(&out)
	return out.String()
}

// summary is the result in one line.
func (p page) summary() string {
	n := p.count("")
	chosen := fmt.Sprintf("%d tests were chosen", len(p.specs))
	if p.all != nil {
		chosen = fmt.Sprintf("%d of upstream's %d conformance tests have run", len(p.all)-len(p.missing), len(p.all))
	}
	return fmt.Sprintf("%s, in %.0f minutes: %d passed, %d failed, %d skipped themselves.",
		chosen, p.took.Minutes(), n[passed], n[failed], n[skipped])
}

func (p page) renderFacts(out *strings.Builder) {
	first := p.nodes[0].Status
	fmt.Fprintf(out, "Run on %s: Kubernetes %s, %s, Linux %s, %s; nodes: %d, each sees %d cores and %d GB of memory.\n\n",
		p.date.Format(time.DateOnly), first.NodeInfo.KubeletVersion,
		strings.Replace(first.NodeInfo.ContainerRuntimeVersion, "://", " ", 1), first.NodeInfo.KernelVersion,
		first.NodeInfo.OSImage, len(p.nodes), first.Capacity.CPU.Value(), first.Capacity.Memory.Value()/1e9)
}

func (p page) renderCounts(out *strings.Builder) {
	sigs := map[string]bool{}
	for _, s := range p.specs {
		sigs[s.sig()] = true
	}
	out.WriteString("| SIG | passed | failed | skipped |\n|---|---|---|---|\n")
	for _, sig := range append(slices.Sorted(maps.Keys(sigs)), "") {
		n := p.count(sig)
		fmt.Fprintf(out, "| %s | %d | %d | %d |\n", cmp.Or(sig, "all"), n[passed], n[failed], n[skipped])
	}
}

// count counts the outcomes of a SIG's tests, or of all.
func (p page) count(sig string) map[outcome]int {
	n := map[outcome]int{}
	for _, s := range p.specs {
		if sig == "" || s.sig() == sig {
			n[s.outcome]++
		}
	}
	return n
}

// rest is what has not passed, by name.
func (p page) rest() []spec {
	var rest []spec
	for _, s := range p.specs {
		if s.outcome != passed {
			rest = append(rest, s)
		}
	}
	for _, name := range p.missing {
		rest = append(rest, spec{name: name, outcome: skipped, says: "has not run"})
	}
	slices.SortFunc(rest, func(a, b spec) int { return cmp.Compare(a.name, b.name) })
	return rest
}

func (p page) renderRest(out *strings.Builder) {
	rest := p.rest()
	if len(rest) == 0 {
		return
	}
	out.WriteString("\n## Not passed\n\n| test | says | why |\n|---|---|---|\n")
	for _, s := range rest {
		why := cmp.Or(p.reason(s.name), "not known yet")
		fmt.Fprintf(out, "| %s | %s | %s |\n", cell(s.name), cell(s.says), cell(why))
	}
}

// unexplained counts what has not passed for no known reason.
func (p page) unexplained() int {
	n := 0
	for _, s := range p.rest() {
		counts := s.outcome == failed || p.all != nil
		if counts && p.reason(s.name) == "" {
			n++
		}
	}
	return n
}

func (p page) reason(name string) string {
	for _, text := range slices.Sorted(maps.Keys(p.reasons)) {
		if strings.Contains(name, text) {
			return p.reasons[text]
		}
	}
	return ""
}

// cell makes a text fit into a table.
func cell(text string) string {
	const most = 300
	text = strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}
