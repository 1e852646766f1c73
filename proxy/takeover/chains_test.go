// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRules(t *testing.T) {
	for name, tt := range map[string]struct {
		saved []string
		want  rules
	}{
		"nothing of kube-proxy": {
			saved: []string{":PREROUTING ACCEPT [0:0]", ":DOCKER - [0:0]", "-A PREROUTING -j DOCKER"},
		},
		"services": {
			saved: []string{
				":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]", ":KUBE-SVC-X - [0:0]", ":KUBE-SEP-Y - [0:0]",
				`-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
				"-A OUTPUT -j KUBE-SERVICES", "-A OUTPUT -j ACCEPT", "-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-X", "-A KUBE-SVC-X -j KUBE-SEP-Y",
			},
			want: rules{
				chains: []string{"KUBE-SEP-Y", "KUBE-SERVICES", "KUBE-SVC-X"},
				jumps: []string{
					`-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`, "-A OUTPUT -j KUBE-SERVICES",
				},
			},
		},
		"the kubelet's chains stay": {
			saved: []string{
				":INPUT ACCEPT [0:0]", ":KUBE-FIREWALL - [0:0]", ":KUBE-KUBELET-CANARY - [0:0]", ":KUBE-PROXY-CANARY - [0:0]",
				":KUBE-IPTABLES-HINT - [0:0]", ":KUBE-MARK-DROP - [0:0]", "-A INPUT -j KUBE-FIREWALL",
			},
			want: rules{chains: []string{"KUBE-PROXY-CANARY"}},
		},
		"a chain that others use stays, with what it leads to": {
			saved: []string{
				":POSTROUTING ACCEPT [0:0]", ":KUBE-MARK-MASQ - [0:0]", ":KUBE-SVC-X - [0:0]", ":KUBE-SEP-Y - [0:0]", ":KUBE-POSTROUTING - [0:0]",
				":CNI-DN-1 - [0:0]", "-A CNI-DN-1 -j KUBE-MARK-MASQ", "-A CNI-DN-1 -g KUBE-SVC-X", "-A KUBE-SVC-X -j KUBE-SEP-Y",
				"-A POSTROUTING -j KUBE-POSTROUTING", "-A POSTROUTING -j KUBE-MARK-MASQ",
			},
			want: rules{
				chains: []string{"KUBE-POSTROUTING"}, jumps: []string{"-A POSTROUTING -j KUBE-POSTROUTING"},
				used: []string{"KUBE-MARK-MASQ", "KUBE-SEP-Y", "KUBE-SVC-X"},
			},
		},
		"a comment is no rule": {
			saved: []string{
				":INPUT ACCEPT [0:0]", ":KUBE-FORWARD - [0:0]",
				`-A INPUT -m comment --comment "like -j KUBE-FORWARD" -j ACCEPT`,
			},
			want: rules{chains: []string{"KUBE-FORWARD"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.want.table = "nat"
			got := parseRules("nat", []byte(strings.Join(tt.saved, "\n")))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(rules{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScript(t *testing.T) {
	r := rules{
		table: "nat", chains: []string{"KUBE-SEP-Y", "KUBE-SERVICES"},
		jumps: []string{`-A OUTPUT -m comment --comment "kubernetes -A service" -j KUBE-SERVICES`},
	}
	want := `*nat
:KUBE-SEP-Y - [0:0]
:KUBE-SERVICES - [0:0]
-D OUTPUT -m comment --comment "kubernetes -A service" -j KUBE-SERVICES
-X KUBE-SEP-Y
-X KUBE-SERVICES
COMMIT
`
	if diff := cmp.Diff(want, r.script()); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n")
	f.Add(":\n-A\n-A -j\n-A x -j KUBE-SVC-\n: KUBE-SVC-A -")
	f.Fuzz(func(t *testing.T, saved string) {
		for _, chain := range parseRules("nat", []byte(saved)).chains {
			if !isOwn(chain) {
				t.Errorf("%s is not kube-proxy's", chain)
			}
		}
	})
}
