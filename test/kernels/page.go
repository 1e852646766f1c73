// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"slipway.dev/slipway/test/kernels/result"
)

//go:embed page.md.tmpl
var pageText string

// page is what docs/kernels.md is written from.
type page struct {
	Kernels []kernelRow
	// Checks and Programs are tables with a column for each of Kernels.
	Checks, Programs []tableRow
	// Columns are the names of the kernels.
	Columns []string
	// Remarks are what checks say that are not native.
	Remarks []string
	Trials  []trial
	Steps   []stepTable
}

// kernelRow is a kernel that was tried.
type kernelRow struct{ Name, Origin, Arch, Release, Version string }

// tableRow is a row with a name and a cell for each kernel.
type tableRow struct {
	Name  string
	Cells []string
}

// stepTable holds the steps of one trial.
type stepTable struct {
	Title string
	Lines []result.Line
}

// writePage writes the page from all results that are kept.
func (l *lab) writePage(path string) error {
	trials, err := l.kept()
	if err != nil {
		return err
	}
	funcs := template.FuncMap{"join": strings.Join, "says": saysOf, "result": resultOf, "cell": cell}
	t, err := template.New("page").Funcs(funcs).Parse(pageText)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := t.Execute(&text, makePage(trials)); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}

// kept reads the results of all trials, in the order of kernels and parts.
func (l *lab) kept() ([]trial, error) {
	var trials []trial
	for _, w := range kernels() {
		for _, p := range parts() {
			data, err := os.ReadFile(filepath.Join(l.dir, "results", w.name+"-"+p.name+".json"))
			if os.IsNotExist(err) {
				continue
			}
			var t trial
			if err == nil {
				err = json.Unmarshal(data, &t)
			}
			if err != nil {
				return nil, fmt.Errorf("result of %s on %s: %w", p.name, w.name, err)
			}
			trials = append(trials, t)
		}
	}
	return trials, nil
}

func makePage(trials []trial) page {
	var p page
	checks, programs := newTable(), newTable()
	for _, w := range kernels() {
		i := slices.IndexFunc(trials, func(t trial) bool { return t.Kernel == w.name && t.Release != "" })
		if i < 0 {
			continue
		}
		p.Columns = append(p.Columns, w.name)
		p.Kernels = append(p.Kernels, kernelRow{w.name, w.origin, w.arch, trials[i].Release, trials[i].Version})
		for _, t := range trials {
			if t.Kernel != w.name || t.Part != "load" && t.Part != "refused" {
				continue
			}
			p.Remarks = append(p.Remarks, remarks(t)...)
			checks.fill(w.name, t.Lines, result.Check)
			programs.fill(w.name, t.Lines, result.Program)
		}
	}
	p.Checks, p.Programs = checks.rows(p.Columns), programs.rows(p.Columns)
	for _, t := range trials {
		if t.Part == shortPart {
			continue
		}
		p.Trials = append(p.Trials, t)
		if t.Part == "cluster" {
			steps := slices.DeleteFunc(slices.Clone(t.Lines), func(l result.Line) bool { return l.Kind != result.Step })
			p.Steps = append(p.Steps, stepTable{t.Kernel, steps})
		}
	}
	return p
}

// remarks are what a kernel lacks and what that costs.
func remarks(t trial) []string {
	var all []string
	for _, line := range t.Lines {
		if line.Kind == result.Check && (!line.OK || line.Mode == "fallback") {
			all = append(all, fmt.Sprintf("%s, %s: %s", t.Kernel, line.Name, cell(line.Says)))
		}
	}
	return all
}

// table collects cells by row and column.
type table struct {
	names []string
	cells map[[2]string]string
}

func newTable() *table { return &table{cells: map[[2]string]string{}} }

// fill adds the lines of a kind. Checks that are about the host, such as its
// ports, have no mode, and are left out unless they fail.
func (t *table) fill(column string, lines []result.Line, kind result.Kind) {
	for _, line := range lines {
		if line.Kind != kind || kind == result.Check && line.OK && line.Mode == "" {
			continue
		}
		if !slices.Contains(t.names, line.Name) {
			t.names = append(t.names, line.Name)
		}
		t.cells[[2]string{line.Name, column}] = resultOf(line)
	}
}

func (t *table) rows(columns []string) []tableRow {
	var rows []tableRow
	for _, name := range t.names {
		row := tableRow{Name: name}
		for _, column := range columns {
			row.Cells = append(row.Cells, t.cells[[2]string{name, column}])
		}
		rows = append(rows, row)
	}
	return rows
}

// resultOf is a result in a word, with its time where that was taken.
func resultOf(line result.Line) string {
	word := "ok"
	switch {
	case !line.OK && line.Kind == result.Check:
		word = "refused"
	case !line.OK:
		word = "failed"
	case line.Mode != "":
		word = line.Mode
	}
	if line.Seconds > 0 {
		word += fmt.Sprintf(", %.1f s", line.Seconds)
	}
	return word
}

// saysOf describes a part.
func saysOf(name string) string {
	i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
	return parts()[i].says
}

// cell makes a text fit into a table.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return strings.ReplaceAll(text, "|", `\|`)
}
