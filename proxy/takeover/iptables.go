// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// iptablesTables are those that kube-proxy writes into.
var iptablesTables = []string{"nat", "filter", "mangle"}

// tool is one of the iptables programs of a family: the one that writes into
// nftables, or the older one with tables of its own.
type tool struct {
	command string
	legacy  bool
}

// findTool looks for the program by the name that says what it is, and by the
// common one.
func findTool(ctx context.Context, f family, legacy bool) (tool, error) {
	kind, version := "nft", "nf_tables"
	if legacy {
		kind, version = "legacy", "legacy"
	}
	if _, err := exec.LookPath(f.command + "-" + kind + "-save"); err == nil {
		return tool{f.command + "-" + kind, legacy}, nil
	}
	out, err := exec.CommandContext(ctx, f.command, "--version").Output()
	if err != nil || !strings.Contains(string(out), "("+version+")") {
		return tool{}, fmt.Errorf("there are %s rules of iptables (%s), but no program %s-%s to read them: install iptables", f.name, kind, f.command, kind)
	}
	return tool{f.command, legacy}, nil
}

// read returns what kube-proxy has in a table.
func (t tool) read(ctx context.Context, table string) (rules, error) {
	saved, err := run(exec.CommandContext(ctx, t.command+"-save", "-t", table))
	if err != nil {
		return rules{}, err
	}
	return parseRules(table, saved), nil
}

func (t tool) remove(ctx context.Context, r rules) error {
	cmd := exec.CommandContext(ctx, t.command+"-restore", "--noflush", "--wait")
	cmd.Stdin = strings.NewReader(r.script())
	_, err := run(cmd)
	return err
}

// run returns what a program prints, and what it complains of as an error.
func run(cmd *exec.Cmd) ([]byte, error) {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

// toolRules is what a program has found in a table.
type toolRules struct {
	tool tool
	rules
}

// iptablesRules finds kube-proxy's rules in both kinds of iptables. It asks no
// program about tables that are not there, which would make them.
func iptablesRules(ctx context.Context, conn *nftables.Conn) ([]toolRules, error) {
	var out []toolRules
	for _, f := range families {
		nft, err := f.nftTablesOfProxy(conn)
		if err != nil {
			return nil, err
		}
		legacy, err := f.legacyTables()
		if err != nil {
			return nil, err
		}
		for isLegacy, tables := range map[bool][]string{false: nft, true: legacy} {
			found, err := f.rulesIn(ctx, isLegacy, tables)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	slices.SortStableFunc(out, func(a, b toolRules) int { return strings.Compare(a.tool.command, b.tool.command) })
	return out, nil
}

func (f family) rulesIn(ctx context.Context, legacy bool, tables []string) ([]toolRules, error) {
	var out []toolRules
	for _, table := range iptablesTables {
		if !slices.Contains(tables, table) {
			continue
		}
		t, err := findTool(ctx, f, legacy)
		if err != nil {
			return nil, err
		}
		r, err := t.read(ctx, table)
		if err != nil {
			return nil, err
		}
		if !r.empty() || len(r.used) > 0 {
			out = append(out, toolRules{t, r})
		}
	}
	return out, nil
}

// legacyRulesExist tells whether the older iptables has rules of kube-proxy. Where
// there is no program to ask, only the connections tell of it.
func (f family) legacyRulesExist() (bool, error) {
	tables, err := f.legacyTables()
	if err != nil || !slices.Contains(tables, "nat") {
		return false, err
	}
	t, err := findTool(context.Background(), f, true)
	if err != nil {
		return false, nil
	}
	_, err = run(exec.Command(t.command, "--wait", "-t", "nat", "-S", servicesChain))
	return err == nil, nil
}
