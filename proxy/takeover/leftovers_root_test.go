// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/roottest"
)

// kubeRules is what kube-proxy writes, with rules of others beside it.
const kubeRules = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-X - [0:0]
:KUBE-MARK-MASQ - [0:0]
:OTHER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j OTHER
-A KUBE-SERVICES -d 198.18.96.1/32 -j KUBE-SVC-X
-A OTHER -j KUBE-MARK-MASQ
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j KUBE-FORWARD
COMMIT
*mangle
:KUBE-PROXY-CANARY - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
`

func shell(t *testing.T, ns netns.NsHandle, input string, argv ...string) string {
	t.Helper()
	var out []byte
	roottest.In(t, ns, func() error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(input)
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// TestRootLeftovers removes all that kube-proxy makes in any mode, and nothing else.
func TestRootLeftovers(t *testing.T) {
	roottest.Require(t)
	ns := roottest.NetNS(t)
	var want []string
	for _, command := range []string{"iptables-nft", "iptables-legacy"} {
		shell(t, ns, kubeRules, command+"-restore", "--noflush")
	}
	for _, tool := range []string{"iptables-legacy", "iptables-nft"} {
		for _, line := range []string{
			`nat: rule -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
			"nat: chain KUBE-SERVICES", "nat: chain KUBE-SVC-X",
			"filter: rule -A FORWARD -j KUBE-FORWARD", "filter: chain KUBE-FORWARD", "mangle: chain KUBE-PROXY-CANARY",
		} {
			want = append(want, tool+" -t "+line)
		}
	}
	shell(t, ns, "table ip kube-proxy { chain x { }; }\ntable ip6 kube-proxy { }\ntable inet kube-proxy { }\ntable ip mine { }\n", "nft", "-f", "-")
	want = append(want, "nftables: table ip kube-proxy", "nftables: table ip6 kube-proxy")
	roottest.In(t, ns, func() error {
		dummy := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: ipvsDevice}}
		switch err := netlink.LinkAdd(dummy); {
		case errors.Is(err, unix.EOPNOTSUPP):
			t.Log("this kernel has no dummy devices: cannot try that of mode ipvs")
		case err != nil:
			return err
		default:
			want = append(want, "device "+ipvsDevice)
		}
		return nil
	})

	roottest.In(t, ns, func() error {
		if there, err := rulesExist(); err != nil || !there {
			t.Errorf("rules exist: %v, %v", there, err)
		}
		found, err := Find(t.Context())
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, found.List()); diff != "" {
			t.Error(diff)
		}
		kept := []string{"iptables-legacy -t nat: chain KUBE-MARK-MASQ", "iptables-nft -t nat: chain KUBE-MARK-MASQ"}
		if diff := cmp.Diff(kept, found.Kept()); diff != "" {
			t.Error(diff)
		}
		if err := found.Remove(t.Context(), false); err != nil {
			return err
		}
		if found, err = Find(t.Context()); err != nil {
			return err
		}
		if list := found.List(); len(list) > 0 {
			t.Errorf("still there: %v", list)
		}
		there, err := rulesExist()
		if there {
			t.Error("rules still exist")
		}
		return err
	})
	for _, command := range []string{"iptables-nft-save", "iptables-legacy-save"} {
		saved := strings.Split(shell(t, ns, "", command), "\n")
		for _, rule := range []string{"-A PREROUTING -j OTHER", "-A OTHER -j KUBE-MARK-MASQ", "-A INPUT -j KUBE-FIREWALL", ":KUBE-KUBELET-CANARY - [0:0]"} {
			if !slices.Contains(saved, rule) {
				t.Errorf("%s: %s is gone", command, rule)
			}
		}
	}
	tables := shell(t, ns, "", "nft", "list", "tables")
	for _, table := range []string{"table inet kube-proxy\n", "table ip mine\n"} {
		if !strings.Contains(tables, table) {
			t.Errorf("%s is gone: %s", table, tables)
		}
	}
}

// TestRootLeftoversTranslate has a connection that only kube-proxy's rules have
// netfilter translate.
func TestRootLeftoversTranslate(t *testing.T) {
	roottest.Require(t)
	ns := roottest.NetNS(t)
	shell(t, ns, "", "ip", "link", "set", "lo", "up")
	shell(t, ns, "table ip kube-proxy { chain out { type nat hook output priority -100; udp dport 80 dnat to 127.0.0.1:8080; }; }\n", "nft", "-f", "-")
	shell(t, ns, "", "bash", "-c", "echo >/dev/udp/127.0.0.1/80")
	roottest.In(t, ns, func() error {
		found, err := Find(t.Context())
		if err != nil {
			return err
		}
		if err := found.Remove(t.Context(), false); !errors.Is(err, ErrTranslates) {
			t.Errorf("got error %v, expected %v", err, ErrTranslates)
		}
		shell(t, ns, "table inet mine { chain post { type nat hook postrouting priority 100; ip daddr 192.0.2.7 masquerade; }; }\n", "nft", "-f", "-")
		return found.Remove(t.Context(), false)
	})
}
