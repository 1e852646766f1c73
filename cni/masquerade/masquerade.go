// SPDX-License-Identifier: Apache-2.0

// Package masquerade gives packets of pods that leave the cluster the address
// of the node. It owns the nftables table "slipway" of family inet, one chain
// with a rule or two for each CIDR, and speaks to the kernel over netlink; no
// nft program is needed. Traffic that the BPF programs translate, such as
// replies of NodePort connections, does not come through netfilter and so
// never meets these rules.
package masquerade

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

const (
	tableName = "slipway"
	chainName = "postrouting"
)

// Config says what is masqueraded.
type Config struct {
	// PodCIDRs are those of this node: sources.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are those of all pods: destinations that are left alone.
	ClusterCIDRs []netip.Prefix
}

// Set makes the table hold the rules for a configuration, in one transaction,
// in the namespace with the given file descriptor. It changes nothing that is
// right already.
func Set(namespace int, cfg Config) error {
	conn, err := nftables.New(nftables.WithNetNSFd(namespace))
	if err != nil {
		return fmt.Errorf("set masquerade rules: %w", err)
	}
	table, chain := layout()
	want := rules(table, chain, cfg)
	right, err := current(conn, table, chain, want)
	if err != nil {
		return fmt.Errorf("set masquerade rules: %w", err)
	}
	if right {
		return nil
	}
	// The first makes sure that there is something to delete.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	conn.AddChain(chain)
	for _, r := range want {
		conn.AddRule(r)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set masquerade rules: %w", err)
	}
	return nil
}

// Remove removes the table, if there is one.
func Remove(namespace int) error {
	conn, err := nftables.New(nftables.WithNetNSFd(namespace))
	if err != nil {
		return fmt.Errorf("remove masquerade rules: %w", err)
	}
	table, _ := layout()
	there, err := exists(conn, table)
	if err != nil {
		return fmt.Errorf("remove masquerade rules: %w", err)
	}
	if !there {
		return nil
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove masquerade rules: %w", err)
	}
	return nil
}

func layout() (*nftables.Table, *nftables.Chain) {
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	accept := nftables.ChainPolicyAccept
	return table, &nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeNAT, Policy: &accept,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

func exists(conn *nftables.Conn, table *nftables.Table) (bool, error) {
	tables, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == table.Name {
			return true, nil
		}
	}
	return false, nil
}

// current tells whether the kernel has exactly this chain with these rules.
func current(conn *nftables.Conn, table *nftables.Table, chain *nftables.Chain, want []*nftables.Rule) (bool, error) {
	there, err := exists(conn, table)
	if err != nil || !there {
		return false, err
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	ours := 0
	for _, c := range chains {
		if c.Table.Name == table.Name {
			ours++
			if !sameChain(c, chain) {
				return false, nil
			}
		}
	}
	if ours != 1 {
		return false, nil
	}
	have, err := conn.GetRules(table, chain)
	if err != nil {
		return false, fmt.Errorf("list rules: %w", err)
	}
	return sameRules(have, want), nil
}

func sameChain(a, b *nftables.Chain) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Hooknum != nil && *a.Hooknum == *b.Hooknum &&
		a.Priority != nil && *a.Priority == *b.Priority
}

func sameRules(have, want []*nftables.Rule) bool {
	if len(have) != len(want) {
		return false
	}
	for i := range have {
		if comment(have[i]) != comment(want[i]) || !reflect.DeepEqual(have[i].Exprs, want[i].Exprs) {
			return false
		}
	}
	return true
}

func comment(r *nftables.Rule) string {
	text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return text
}
