// SPDX-License-Identifier: Apache-2.0

// Package takeover tries on real sockets how the service proxy takes the place of
// kube-proxy on a node that has connections, and how it gives the place back. It
// has tests only.
package takeover

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni/masquerade"
	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/proxy/takeover"
	"slipway.dev/slipway/test/api"
)

// exchanges are how many each kind of flow must have had before the next step.
const exchanges = 500

// podRanges are those of the cluster.
var podRanges = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}

func TestRootTakeOver(t *testing.T) {
	roottest.Require(t)
	for name, make := range map[string]func(t *testing.T) *other{
		"rules of iptables":   func(*testing.T) *other { return ruleset(iptablesRules) },
		"rules of nftables":   func(*testing.T) *other { return ruleset(nftRules) },
		"kube-proxy iptables": func(t *testing.T) *other { return kubeProxy(t, "iptables") },
		"kube-proxy nftables": func(t *testing.T) *other { return kubeProxy(t, "nftables") },
	} {
		t.Run(name, func(t *testing.T) { takeOver(t, make(t)) })
	}
}

// takeOver has flows before, while and after another proxy serves, then we, then
// the other one again.
func takeOver(t *testing.T, proxy *other) {
	s := newSite(t)
	proxy.start(t, s.lab)
	s.hasRules(t)
	s.all(t, "open begun by the other proxy", "new")
	s.phase(t, "the other proxy alone")

	s.begin(t)
	s.phase(t, "both, new connections by us")
	s.translates(t)
	proxy.stop(t)
	s.cleanup(t)
	s.all(t, "open begun by us")
	s.phase(t, "we alone")

	proxy.start(t, s.lab)
	s.hasRules(t)
	s.phase(t, "both again")
	s.handBack(t)
	s.all(t, "open begun by the other proxy again")
	s.phase(t, "the other proxy again")

	s.begin(t)
	s.phase(t, "taken over once more")
	s.all(t, "stop")
	s.report(t, "until the end", 0)
	s.total(t)
}

// site is a lab with clients, and our proxy when it runs.
type site struct {
	*lab
	cgroup  *os.File
	pins    string
	clients map[string]*hand
	sums    map[string]*tally
	stop    func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{lab: newLab(t), pins: filepath.Join(roottest.BPFFS(t), "slipway"), sums: map[string]*tally{}, stop: func() {}}
	group, err := os.Open(roottest.Cgroup(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { group.Close() })
	s.cgroup = group
	s.clients = map[string]*hand{
		"outside": startWorker(t, s.outside.ns, nil, targets(s.services(), false)),
		"pod":     startWorker(t, s.client.ns, group, targets(s.services(), true)),
		"node":    startWorker(t, s.node, group, targets(s.services(), true)),
	}
	t.Cleanup(func() { s.stop() })
	return s
}

// api is the API with all objects, inside the node's namespace.
func (l *lab) api(t *testing.T) *api.Server {
	t.Helper()
	server := l.objects(t)
	roottest.In(t, l.node, func() error { return server.Start("127.0.0.1:0") })
	t.Cleanup(server.Stop)
	return server
}

func (l *lab) objects(t *testing.T) *api.Server {
	t.Helper()
	server := api.New()
	objects := []api.Object{nodeObject()}
	for _, s := range l.services() {
		objects = append(objects, s.objects()...)
	}
	if err := server.Put(objects...); err != nil {
		t.Fatal(err)
	}
	return server
}

// all gives commands to all clients.
func (s *site) all(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		for name, c := range s.clients {
			if got := c.told(t, command); got != "ok" {
				t.Fatalf("%s: %s: %s", name, command, got)
			}
		}
	}
}

// phase lets flows go on for a while and reports what became of them.
func (s *site) phase(t *testing.T, name string) {
	t.Helper()
	s.report(t, name, exchanges)
}

// report waits until each kind of flow has had so many exchanges more.
func (s *site) report(t *testing.T, name string, least int) {
	t.Helper()
	sums, enough := map[string]*tally{}, map[string]int{}
	s.collect(t, sums)
	for kind, sum := range sums {
		enough[kind] = sum.Good + least
	}
	roottest.Eventually(t, 30*time.Second, func() error {
		s.collect(t, sums)
		for kind, sum := range sums {
			if sum.Good < enough[kind] && sum.Failed+sum.Wrong == 0 {
				return fmt.Errorf("%s: %d exchanges", kind, sum.Good)
			}
		}
		return nil
	})
	for _, kind := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[kind]
		s.count(kind, sum)
		t.Logf("%s: %s: %d exchanges, %d failed, %d wrong", name, kind, sum.Good, sum.Failed, sum.Wrong)
		if sum.Failed+sum.Wrong > 0 {
			t.Errorf("%s: %s: %s", name, kind, strings.Join(sum.Why, "; "))
		}
	}
}

// count adds to the counts of the whole test.
func (s *site) count(kind string, sum *tally) {
	what := "kept flows"
	if strings.HasSuffix(kind, ", new") {
		what = "new connections"
	}
	if s.sums[what] == nil {
		s.sums[what] = &tally{}
	}
	s.sums[what].add(*sum)
}

func (s *site) total(t *testing.T) {
	t.Helper()
	for what, sum := range s.sums {
		t.Logf("in all: %s: %d exchanges, %d failed, %d wrong", what, sum.Good, sum.Failed, sum.Wrong)
	}
}

// collect adds what clients have counted since the last time, by client and kind of
// flow.
func (s *site) collect(t *testing.T, sums map[string]*tally) {
	t.Helper()
	for who, c := range s.clients {
		var counts tallies
		if err := json.Unmarshal([]byte(c.told(t, "count")), &counts); err != nil {
			t.Fatal(err)
		}
		counts.Kept["new"] = &counts.New
		for when, more := range counts.Kept {
			kind := fmt.Sprintf("%s, %s", who, when)
			if sums[kind] == nil {
				sums[kind] = &tally{}
			}
			sums[kind].add(*more)
		}
	}
}

// begin starts our proxy, and waits until all is served.
func (s *site) begin(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "agent")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	roottest.In(t, s.node, cmd.Start)
	s.stop = func() {
		s.stop = func() {}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("our proxy: %v", err)
		}
	}
	setup := agentSetup{Pins: s.pins, Cgroup: s.cgroup.Name(), API: s.api(t).URL(), PodRanges: podRanges}
	for _, p := range []*place{s.first, s.second, s.client} {
		setup.Pods = append(setup.Pods, agentPod{p.link, p.mac, []netip.Addr{netip.MustParseAddr(p.v4), netip.MustParseAddr(p.v6)}})
	}
	if err := json.NewEncoder(in).Encode(setup); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "serves\n" {
		t.Fatalf("our proxy says %q (%v)", line, err)
	}
}

// translates checks that connections from other hosts go through us, all but those
// that netfilter has.
func (s *site) translates(t *testing.T) {
	t.Helper()
	view, err := bpf.OpenView(s.pins)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	count := 0
	for _, err := range view.Conntrack() {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count == 0 {
		t.Error("no connection from another host goes through us")
	}
}

// cleanup removes the other proxy's rules, and nothing else.
func (s *site) cleanup(t *testing.T) {
	t.Helper()
	roottest.In(t, s.node, func() error {
		found, err := takeover.Find(t.Context())
		if err != nil {
			return err
		}
		if err := found.Remove(t.Context(), false); errors.Is(err, takeover.ErrTranslates) {
			// The agent has this table always.
			if err := masquerade.Set(0, masquerade.Config{PodCIDRs: podRanges, ClusterCIDRs: podRanges}); err != nil {
				return err
			}
			err = found.Remove(t.Context(), false)
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		left, err := takeover.Find(t.Context())
		if err != nil {
			return err
		}
		if list := left.List(); len(list) > 0 {
			t.Errorf("still there after cleanup: %v", list)
		}
		return nil
	})
}

// handBack stops our proxy and takes the data path off.
func (s *site) handBack(t *testing.T) {
	t.Helper()
	s.stop()
	roottest.In(t, s.node, func() error {
		from, err := bpf.OpenHandover(s.pins)
		if err != nil {
			return err
		}
		defer from.Close()
		summary, err := from.Summary()
		if err != nil {
			return err
		}
		for reason, n := range summary.Drops {
			if n > 0 {
				t.Logf("%d packets dropped: %s", n, reason)
			}
		}
		begin := time.Now()
		handed, err := takeover.HandBack(from)
		t.Logf("handed back from %s to %s: %+v", begin.Format("05.000"), time.Now().Format("05.000"), handed)
		return errors.Join(err, bpf.Remove(s.pins))
	})
}
