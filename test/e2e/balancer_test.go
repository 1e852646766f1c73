// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/test/e2e/talk"
)

// balanced is how many Services get addresses: enough that each node has some.
const balanced = 6

// testLoadBalancers gives Services addresses out of a pool. Each is announced by
// one node, and by another one soon after that node has lost its power.
func testLoadBalancers(t *testing.T, c *cluster) {
	c.kubectl(t, "apply", "-f", "testdata/pool.yaml")
	for i := range balanced {
		name := fmt.Sprintf("balanced-%d", i)
		c.kubectl(t, "create", "service", "loadbalancer", name, "--tcp=80:8080")
		c.kubectl(t, "patch", "service", name, "-p", `{"spec":{"selector":{"app":"everywhere"},"ipFamilyPolicy":"RequireDualStack"}}`)
	}
	addrs := c.balancerAddresses(t)
	for _, addr := range addrs {
		within(t, 30*time.Second, func() error {
			return fromAll(talk.Ask([]talk.Target{{Kind: talk.HTTP, Addr: netip.AddrPortFrom(addr, 80).String()}}, enough))
		})
	}
	nodes := c.nodeNames(t)
	c.wantAnnounced(t, 30*time.Second, nodes, addrs)
	if out := c.kubectl(t, "describe", "service", "balanced-0"); !strings.Contains(out, "AddressAssigned") {
		t.Errorf("no event about the address:\n%s", out)
	}
	c.kubectl(t, "annotate", "service", "balanced-0", "slipway.dev/addresses=192.0.2.9")
	within(t, 10*time.Second, func() error {
		if out := c.kubectl(t, "describe", "service", "balanced-0"); !strings.Contains(out, "no AddressPool that serves this Service has it") {
			return fmt.Errorf("no event about the address that it cannot have:\n%s", out)
		}
		return nil
	})
	c.kubectl(t, "annotate", "service", "balanced-0", "slipway.dev/addresses-")

	victim := nodes[2]
	addrs = c.balancerAddresses(t)
	begin := time.Now()
	if err := process.Kill(c.localNode(t, victim), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	c.wantAnnounced(t, 30*time.Second, nodes[:2], addrs)
	t.Logf("all addresses are announced %.1f s after a node was lost", time.Since(begin).Seconds())
	if r := c.run(t, 2*time.Minute, "nodes", "start", victim); r.status != 0 {
		t.Fatalf("nodes start: %s%s", r.stdout, r.stderr)
	}
	c.waitEverywhere(t)
	c.kubectl(t, "delete", "-f", "testdata/pool.yaml")
	c.wantAnnounced(t, 30*time.Second, nodes, nil)
	for i := range balanced {
		c.kubectl(t, "delete", "service", fmt.Sprintf("balanced-%d", i))
	}
}

// balancerAddresses returns the addresses of all balanced Services, two each.
func (c *cluster) balancerAddresses(t *testing.T) []netip.Addr {
	t.Helper()
	var addrs []netip.Addr
	within(t, 30*time.Second, func() error {
		addrs = nil
		for i := range balanced {
			for text := range strings.FieldsSeq(c.get(t, fmt.Sprintf("service/balanced-%d", i), "{.status.loadBalancer.ingress[*].ip}")) {
				addrs = append(addrs, netip.MustParseAddr(text))
			}
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		if n := len(slices.Compact(slices.Clone(addrs))); n != 2*balanced || len(addrs) != n {
			return fmt.Errorf("%d Services have addresses %v", balanced, addrs)
		}
		return nil
	})
	return addrs
}

// wantAnnounced waits until each address is on one node, and no other is.
func (c *cluster) wantAnnounced(t *testing.T, timeout time.Duration, nodes []string, want []netip.Addr) {
	t.Helper()
	within(t, timeout, func() error {
		var have []netip.Addr
		for i, node := range nodes {
			pid := os.Getpid()
			if i > 0 {
				pid = c.localNode(t, node).PID
			}
			have = append(have, announcedBy(t, pid)...)
		}
		slices.SortFunc(have, netip.Addr.Compare)
		if !slices.Equal(have, want) {
			return fmt.Errorf("%v announce %v, expected %v", nodes, have, want)
		}
		return nil
	})
}

// announcedBy returns the addresses of the pool on the interfaces of a process.
func announcedBy(t *testing.T, pid int) []netip.Addr {
	t.Helper()
	out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", "ip", "-o", "address").Output()
	if err != nil {
		t.Fatal(err)
	}
	pool := []netip.Prefix{netip.MustParsePrefix("172.29.0.192/26"), netip.MustParsePrefix("fd00:172:29::c0/122")}
	var found []netip.Addr
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		prefix, err := netip.ParsePrefix(fields[3])
		if err == nil && slices.ContainsFunc(pool, func(p netip.Prefix) bool { return p.Contains(prefix.Addr()) }) {
			found = append(found, prefix.Addr())
		}
	}
	return found
}
