// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftTable is the name of kube-proxy's tables, one of each family.
const nftTable = "kube-proxy"

// family is an IP family as netfilter's parts name it.
type family struct {
	name    string
	nft     nftables.TableFamily
	nftName string
	// command is the first word of the iptables programs' names.
	command string
	// legacy lists the tables that the older iptables has in the kernel.
	legacy string
}

var families = []family{
	{"IPv4", nftables.TableFamilyIPv4, "ip", "iptables", "ip_tables_names"},
	{"IPv6", nftables.TableFamilyIPv6, "ip6", "ip6tables", "ip6_tables_names"},
}

// rulesExist tells whether any rules of kube-proxy are in the kernel. It costs
// little, however many there are.
func rulesExist() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	for _, f := range families {
		tables, err := conn.ListTablesOfFamily(f.nft)
		if err != nil {
			return false, fmt.Errorf("list nftables tables: %w", err)
		}
		for _, t := range tables {
			if t.Name == nftTable {
				return true, nil
			}
			if t.Name != "nat" {
				continue
			}
			if there, err := hasChain(t, servicesChain); err != nil || there {
				return there, err
			}
		}
		if there, err := f.legacyRulesExist(); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// hasChain asks for one chain by name, for a table may have very many.
func hasChain(table *nftables.Table, name string) (bool, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(table.Family), Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(table.Name)))
	req.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for chain %s in table %s: %w", name, table.Name, err)
	}
	return true, nil
}

// legacyTables are the tables that the older iptables has made.
func (f family) legacyTables() ([]string, error) {
	text, err := os.ReadFile("/proc/thread-self/net/" + f.legacy)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.Fields(string(text)), err
}

// nftTablesOfProxy are the tables that the newer iptables has made and kube-proxy
// has written into.
func (f family) nftTablesOfProxy(conn *nftables.Conn) ([]string, error) {
	tables, err := conn.ListTablesOfFamily(f.nft)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var out []string
	for _, t := range tables {
		if !slices.Contains(iptablesTables, t.Name) {
			continue
		}
		for _, chain := range ownChains {
			there, err := hasChain(t, chain)
			if err != nil {
				return nil, err
			}
			if there {
				out = append(out, t.Name)
				break
			}
		}
	}
	return out, nil
}

// translates tells whether netfilter goes on to translate a family's connections
// when kube-proxy's rules are gone: the kernel tracks connections only as long as
// any rule needs it to, such as those that the agent makes for pods.
func (f family) translates(conn *nftables.Conn) (bool, error) {
	for _, nft := range []nftables.TableFamily{f.nft, nftables.TableFamilyINet} {
		chains, err := conn.ListChainsOfTableFamily(nft)
		if err != nil {
			return false, fmt.Errorf("list nftables chains: %w", err)
		}
		for _, c := range chains {
			if c.Type != nftables.ChainTypeNAT || c.Hooknum == nil || c.Table.Name == nftTable || c.Table.Name == "nat" {
				continue
			}
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return false, fmt.Errorf("list rules of %s: %w", c.Table.Name, err)
			}
			if len(rules) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}
