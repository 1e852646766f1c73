// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// counts are the results of a SIG.
type counts struct{ passed, failed int }

// render writes the page.
func render(specs []spec, reasons map[string]string, facts string) string {
	var page strings.Builder
	fmt.Fprintf(&page, "# Conformance\n\nThis page is written by `make conformance`. %s\n\n", facts)
	bySIG := map[string]counts{}
	var all counts
	var failures []spec
	for _, s := range specs {
		c := bySIG[s.sig]
		if s.failure == "" {
			c.passed++
			all.passed++
		} else {
			c.failed++
			all.failed++
			failures = append(failures, s)
		}
		bySIG[s.sig] = c
	}
	page.WriteString("| SIG | passed | failed |\n|---|---|---|\n")
	for _, sig := range slices.Sorted(maps.Keys(bySIG)) {
		fmt.Fprintf(&page, "| %s | %d | %d |\n", sig, bySIG[sig].passed, bySIG[sig].failed)
	}
	share := 100 * float64(all.passed) / float64(all.passed+all.failed)
	fmt.Fprintf(&page, "| all | %d | %d |\n\n%.1f %% of %d have passed.\n", all.passed, all.failed, share, len(specs))
	if len(failures) == 0 {
		return page.String()
	}
	page.WriteString("\n## Failures\n\n| test | says | why |\n|---|---|---|\n")
	slices.SortFunc(failures, func(a, b spec) int { return cmp.Compare(a.name, b.name) })
	for _, s := range failures {
		fmt.Fprintf(&page, "| %s | %s | %s |\n", cell(s.name), cell(s.failure), cell(reasonOf(s.name, reasons)))
	}
	return page.String()
}

func reasonOf(name string, reasons map[string]string) string {
	for _, text := range slices.Sorted(maps.Keys(reasons)) {
		if strings.Contains(name, text) {
			return reasons[text]
		}
	}
	return "not known yet"
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
