// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/google/nftables"

	"slipway.dev/slipway/internal/process"
)

// ErrTranslates says that connections would break, because no other rules have
// netfilter translate addresses. Those that the agent makes for pods do.
var ErrTranslates = errors.New("netfilter still translates connections, and would stop to: no other nftables table has rules for it")

// Leftovers is what kube-proxy has made on this node.
type Leftovers struct {
	iptables []toolRules
	nft      []*nftables.Table
	ipvs     ipvs
}

// Find finds what kube-proxy has made, in all modes. It changes nothing.
func Find(ctx context.Context) (*Leftovers, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	l := &Leftovers{}
	if l.iptables, err = iptablesRules(ctx, conn); err != nil {
		return nil, err
	}
	for _, f := range families {
		tables, err := conn.ListTablesOfFamily(f.nft)
		if err != nil {
			return nil, fmt.Errorf("list nftables tables: %w", err)
		}
		for _, t := range tables {
			if t.Name == nftTable {
				l.nft = append(l.nft, t)
			}
		}
	}
	l.ipvs, err = findIPVS()
	return l, err
}

// List names what Remove removes, one thing a line.
func (l *Leftovers) List() []string {
	var out []string
	for _, r := range l.iptables {
		for _, jump := range r.jumps {
			out = append(out, fmt.Sprintf("%s -t %s: rule %s", r.tool.command, r.table, jump))
		}
		for _, chain := range r.chains {
			out = append(out, fmt.Sprintf("%s -t %s: chain %s", r.tool.command, r.table, chain))
		}
	}
	for _, t := range l.nft {
		out = append(out, fmt.Sprintf("nftables: table %s %s", familyOf(t).nftName, t.Name))
	}
	return append(out, l.ipvs.list()...)
}

// Kept names the chains that Remove leaves because rules that are not kube-proxy's
// lead to them.
func (l *Leftovers) Kept() []string {
	var out []string
	for _, r := range l.iptables {
		for _, chain := range r.used {
			out = append(out, fmt.Sprintf("%s -t %s: chain %s", r.tool.command, r.table, chain))
		}
	}
	return out
}

// Remove removes all of it. It goes on after an error, but for ErrTranslates,
// before which nothing is removed; with force it does not look for that.
func (l *Leftovers) Remove(ctx context.Context, force bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	if !force {
		if err := l.mayGo(conn); err != nil {
			return err
		}
	}
	var errs []error
	for _, r := range l.iptables {
		if !r.empty() {
			errs = append(errs, r.tool.remove(ctx, r.rules))
		}
	}
	for _, t := range l.nft {
		conn.DelTable(t)
		if err := conn.Flush(); err != nil {
			errs = append(errs, fmt.Errorf("remove nftables table %s: %w", t.Name, err))
		}
	}
	return errors.Join(append(errs, l.ipvs.remove())...)
}

// mayGo returns ErrTranslates if connections depend on what is to be removed.
func (l *Leftovers) mayGo(conn *nftables.Conn) error {
	if len(l.nft) == 0 && len(l.iptables) == 0 {
		return nil
	}
	for _, f := range families {
		goesOn, err := f.translates(conn)
		if err != nil {
			return err
		}
		if goesOn {
			continue
		}
		count := 0
		err = translated(func(reply tuple) bool {
			if reply.src.Addr().Is4() == (f.nft == nftables.TableFamilyIPv4) {
				count++
			}
			return true
		})
		if err != nil {
			return err
		}
		if count > 0 {
			return fmt.Errorf("%w (%s, %d of them)", ErrTranslates, f.name, count)
		}
	}
	return nil
}

func familyOf(t *nftables.Table) family {
	i := slices.IndexFunc(families, func(f family) bool { return f.nft == t.Family })
	return families[i]
}

// KubeProxies returns the kube-proxy processes of this node, in containers too.
// Those that are part of another program, as in k3s, are not found.
func KubeProxies() ([]process.Identity, error) {
	return process.FindOnNetwork(func(argv []string) bool { return filepath.Base(argv[0]) == "kube-proxy" })
}
