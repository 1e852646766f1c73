// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"slipway.dev/slipway/test/machine"
)

// ourTable is the only table of nftables that a node makes.
const ourTable = "table inet slipway {"

// testNoServiceRules finds Services in BPF programs and nowhere else.
func testNoServiceRules(t *testing.T, c *cluster) {
	now := snapshot(t)
	diff := machine.Diff(machine.State{machine.Firewall: c.before[machine.Firewall]}, machine.State{machine.Firewall: now[machine.Firewall]})
	service := regexp.MustCompile(`10\.96\.|fd00:10:96:|KUBE-|dnat|redirect|30080|30090`)
	for _, line := range diff {
		if service.MatchString(line) {
			t.Errorf("a rule for Services: %s", line)
		}
		if strings.Contains(line, "iptables") || strings.Contains(line, "nft: table ") && !strings.Contains(line, ourTable) {
			t.Errorf("expected no table besides %q: %s", ourTable, line)
		}
	}
	wantAttached(t, now, []string{
		"sock_connect4 at cgroup CGroupInet4Connect", "sock_connect6 at cgroup CGroupInet6Connect",
		"sock_sendmsg4 at cgroup", "sock_sendmsg6 at cgroup", "sock_recvmsg4 at cgroup", "sock_recvmsg6 at cgroup",
	})
	for _, line := range now[machine.Links] {
		if name, kind, _ := strings.Cut(line, " "); strings.HasPrefix(kind, "type veth") && !slices.Contains(c.before[machine.Links], line) {
			wantAttached(t, now, []string{"at " + name + " TCXIngress"})
		}
	}
	wantInBPFTool(t)
}

func wantAttached(t *testing.T, now machine.State, want []string) {
	t.Helper()
	for _, text := range want {
		if !slices.ContainsFunc(now[machine.Attached], func(line string) bool { return strings.Contains(line, text) }) {
			t.Errorf("nothing is attached as %q:\n%s", text, strings.Join(now[machine.Attached], "\n"))
		}
	}
}

// wantInBPFTool looks with the tool that people look with. Old ones do not
// know the way that programs hang on interfaces, only that they are there.
func wantInBPFTool(t *testing.T) {
	if _, err := exec.LookPath("bpftool"); err != nil {
		t.Skip("bpftool is not installed")
	}
	out, err := exec.Command("bpftool", "cgroup", "tree").CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("bpftool cgroup tree: %w: %s", err, out))
	}
	if !strings.Contains(string(out), "sock_connect4") {
		t.Errorf("bpftool shows no sock_connect4 on a cgroup:\n%s", out)
	}
	out, err = exec.Command("bpftool", "prog", "show").CombinedOutput()
	if err != nil {
		t.Fatal(fmt.Errorf("bpftool prog show: %w: %s", err, out))
	}
	for _, name := range []string{"pod_", "uplink_"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("bpftool shows no program %s...:\n%s", name, out)
		}
	}
}
