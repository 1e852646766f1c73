// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// families are those whose forward hook sees packets of pods.
var families = []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

// ErrOwned says that a table drops packets of pods and only the process that has made
// it may change it, as firewalld wants it with NftablesTableOwner=yes.
var ErrOwned = errors.New("the table belongs to another process")

// generation is a number that every change of nftables raises.
func generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read the generation of nftables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("read the generation of nftables: the kernel's answer has no number")
}

// setNFT keeps our chain in each table that needs it, or removes it where it is
// not needed; everywhere when there are no interfaces. It returns the base chains
// that jump to it.
func setNFT(interfaces []string) ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	var places []string
	var errs []error
	for _, family := range families {
		chains, err := conn.ListChainsOfTableFamily(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("list chains of nftables: %w", err))
			continue
		}
		for _, t := range tablesOf(chains) {
			set, err := t.set(conn, interfaces)
			places, errs = append(places, set...), append(errs, err)
		}
	}
	return places, errors.Join(errs...)
}

// table is what is at the forward hook in a table.
type table struct {
	*nftables.Table
	bases []*nftables.Chain
	// ours is our chain, nil where there is none.
	ours *nftables.Chain
}

// tablesOf finds the tables that filter at the forward hook.
func tablesOf(chains []*nftables.Chain) []*table {
	var all []*table
	find := func(c *nftables.Chain) *table {
		i := slices.IndexFunc(all, func(t *table) bool { return t.Name == c.Table.Name })
		if i < 0 {
			i, all = len(all), append(all, &table{Table: c.Table})
		}
		return all[i]
	}
	for _, c := range chains {
		switch {
		case c.Name == chainName:
			find(c).ours = c
		case c.Type == nftables.ChainTypeFilter && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward:
			t := find(c)
			t.bases = append(t.bases, c)
		}
	}
	return all
}

// set makes the table's chain right in one transaction.
func (t *table) set(conn *nftables.Conn, interfaces []string) ([]string, error) {
	var places []string
	right := true
	var changes []func()
	for _, base := range t.bases {
		rules, err := conn.GetRules(t.Table, base)
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", describe(base), err)
		}
		wanted := len(interfaces) > 0 && refuses(base, rules)
		if wanted {
			places = append(places, describe(base))
		}
		if !jumpIsRight(rules, wanted) {
			right = false
			changes = append(changes, func() { moveJump(conn, base, rules, wanted) })
		}
	}
	ours, err := t.chainIsRight(conn, interfaces, len(places) > 0)
	if err != nil || (ours && right) {
		return places, err
	}
	if len(places) > 0 {
		fill(conn, t.Table, interfaces)
	}
	for _, change := range changes {
		change()
	}
	if len(places) == 0 && t.ours != nil {
		conn.FlushChain(t.ours)
		conn.DelChain(t.ours)
	}
	err = conn.Flush()
	switch {
	case err == nil || (len(places) == 0 && errors.Is(err, os.ErrNotExist)):
		return places, nil
	case errors.Is(err, unix.EPERM):
		err = ErrOwned
	}
	return nil, fmt.Errorf("change table %s %s of nftables: %w", familyNames[t.Family], t.Name, err)
}

func describe(c *nftables.Chain) string {
	return fmt.Sprintf("%s %s %s", familyNames[c.Table.Family], c.Table.Name, c.Name)
}

// refuses tells whether a base chain drops packets that none of its rules accepts,
// or has a rule that drops.
func refuses(base *nftables.Chain, rules []*nftables.Rule) bool {
	if base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop {
		return true
	}
	return slices.ContainsFunc(rules, func(r *nftables.Rule) bool {
		return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
			switch e := e.(type) {
			case *expr.Verdict:
				return e.Kind == expr.VerdictDrop
			case *expr.Reject:
				return true
			case *expr.Target:
				return e.Name == "REJECT" || e.Name == "DROP"
			}
			return false
		})
	})
}

// jumpIsRight tells whether our jump is the first rule and the only one, or is not
// there at all.
func jumpIsRight(rules []*nftables.Rule, wanted bool) bool {
	for i, r := range rules {
		if isJump(r) != (wanted && i == 0) {
			return false
		}
	}
	return !wanted || len(rules) > 0
}

func isJump(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && v.Kind == expr.VerdictJump && v.Chain == chainName
	})
}

func moveJump(conn *nftables.Conn, base *nftables.Chain, rules []*nftables.Rule, wanted bool) {
	for _, r := range rules {
		if isJump(r) {
			// It only fails for a rule without a handle.
			_ = conn.DelRule(r)
		}
	}
	if wanted {
		conn.InsertRule(&nftables.Rule{Table: base.Table, Chain: base, Exprs: []expr.Any{
			&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: chainName},
		}})
	}
}

// chainIsRight tells whether our chain is as it should be.
func (t *table) chainIsRight(conn *nftables.Conn, interfaces []string, wanted bool) (bool, error) {
	if t.ours == nil || !wanted {
		return (t.ours != nil) == wanted, nil
	}
	have, err := conn.GetRules(t.Table, t.ours)
	if err != nil {
		return false, fmt.Errorf("list rules of %s: %w", describe(t.ours), err)
	}
	want := accepting(interfaces)
	return slices.EqualFunc(have, want, func(r *nftables.Rule, exprs []expr.Any) bool { return sameExprs(r.Exprs, exprs) }), nil
}

func fill(conn *nftables.Conn, t *nftables.Table, interfaces []string) {
	chain := conn.AddChain(&nftables.Chain{Name: chainName, Table: t})
	conn.FlushChain(chain)
	for _, exprs := range accepting(interfaces) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
}

// accepting are the rules of our chain, in the words of nft(8) and the form that
// iptables-nft reads:
//
//	iifname "slw*" counter accept
//	oifname "slw*" counter accept
func accepting(interfaces []string) [][]expr.Any {
	var rules [][]expr.Any
	for _, name := range interfaces {
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			rules = append(rules, []expr.Any{
				&expr.Meta{Key: key, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: compared(name)},
				&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
			})
		}
	}
	return rules
}

// compared is a name as the kernel compares it: its first bytes, or all of them
// with what follows.
func compared(name string) []byte {
	name, more := prefix(name)
	if more {
		return []byte(name)
	}
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// sameExprs compares what a rule does, not what it has counted.
func sameExprs(have, want []expr.Any) bool {
	return slices.EqualFunc(have, want, func(a, b expr.Any) bool {
		switch a := a.(type) {
		case *expr.Meta:
			b, ok := b.(*expr.Meta)
			return ok && a.Key == b.Key
		case *expr.Cmp:
			b, ok := b.(*expr.Cmp)
			return ok && a.Op == b.Op && bytes.Equal(a.Data, b.Data)
		case *expr.Counter:
			_, ok := b.(*expr.Counter)
			return ok
		case *expr.Verdict:
			b, ok := b.(*expr.Verdict)
			return ok && a.Kind == b.Kind
		}
		return false
	})
}
