// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/test/e2e/talk"
)

// TestRootNodes runs a cluster of three nodes on this machine, takes one away
// and brings it back.
func TestRootNodes(t *testing.T) {
	c := newNodes(t, 3)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"Traffic", testTrafficBetweenNodes},
		{"Logs", testLogsOfAllNodes},
		{"Certificates", testCertificatesOfNodes},
		{"JoinRefused", testJoinRefused},
		{"LoadBalancers", testLoadBalancers},
		{"AgentKilled", testServiceOfNodeKilled},
		{"NodeLost", testNodeLost},
		{"UpAfterDown", testNodesAfterDown},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					dump(t, c)
				}
			})
			test.run(t, c)
		})
	}
	t.Run("Purge", func(t *testing.T) { testPurge(t, c) })
}

// newNodes starts a cluster of several nodes with a pod on each.
func newNodes(t *testing.T, count int) *cluster {
	t.Helper()
	c := &cluster{slipway: binary(t), flags: []string{fmt.Sprintf("--nodes=%d", count)}}
	keepForeign(t)
	freshKernel(t)
	c.before = snapshot(t)
	c.app = buildApp(t)
	t.Cleanup(func() {
		if exists(dataDir) || exists(runDir) || exists(kubeconfig) {
			dump(t, c)
			c.down(t, "--purge")
		}
	})
	r := c.up(t)
	t.Logf("up took %.1f s:\n%s", r.took.Seconds(), r.stdout)
	c.loadImage(t)
	c.kubectl(t, "apply", "-f", "testdata/nodes.yaml")
	c.waitEverywhere(t)
	return c
}

// waitEverywhere waits until a pod serves on each node.
func (c *cluster) waitEverywhere(t testing.TB) {
	t.Helper()
	c.kubectl(t, "rollout", "status", "daemonset/everywhere", "deployment/spread", "--timeout=120s")
}

func (c *cluster) nodeNames(t testing.TB) []string {
	t.Helper()
	return strings.Fields(c.get(t, "nodes", "{.items[*].metadata.name}"))
}

// podOn returns the pod of an app on a node.
func (c *cluster) podOn(t testing.TB, app, node string) string {
	t.Helper()
	return strings.TrimSpace(c.kubectl(t, "get", "pods", "-l", "app="+app, "--field-selector=spec.nodeName="+node,
		"-o", "jsonpath={.items[0].metadata.name}"))
}

// localNode returns the first process of a further node.
func (c *cluster) localNode(t testing.TB, name string) process.Identity {
	t.Helper()
	for line := range strings.Lines(c.run(t, time.Minute, "nodes", "list").stdout) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name {
			var pid int
			if _, err := fmt.Sscan(fields[2], &pid); err != nil {
				t.Fatalf("node %s: %s", name, line)
			}
			id, err := process.Identify(pid)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
	}
	t.Fatalf("no node %s", name)
	return process.Identity{}
}

// testTrafficBetweenNodes has every node's pod talk to all others, to
// Services, to ports of every node, to the API and to DNS.
func testTrafficBetweenNodes(t *testing.T, c *cluster) {
	nodes := c.nodeNames(t)
	var nodeIPs []netip.Addr
	for _, n := range nodes {
		nodeIPs = append(nodeIPs, c.addresses(t, "node/"+n, `{.status.addresses[?(@.type=="InternalIP")].address}`)...)
	}
	for _, n := range nodes {
		t.Run("from "+n, func(t *testing.T) {
			client := c.podOn(t, "everywhere", n)
			for _, other := range nodes {
				server := c.podOn(t, "everywhere", other)
				answers := c.ask(t, client, 3, targets(c.podIPs(t, server), 8080, 9000)...)
				wantName(t, answers, server)
				wantPeers(t, answers, c.podIPs(t, client))
			}
			wantAll(t, c.ask(t, client, enough, targets(c.serviceIPs(t, "everywhere"), 80, 9000)...))
			wantAll(t, c.ask(t, client, enough, targets(nodeIPs, 30081, 30091)...))
			a := c.ask(t, client, enough, talk.Target{Kind: talk.TCP, Addr: "everywhere:9000"})[0]
			if a.Error != "" || len(a.Names) != replicas {
				t.Errorf("by name: %s", describe(a))
			}
			if out := c.mustExec(t, client, "api", "/api"); !strings.HasPrefix(out, "200 ") {
				t.Errorf("the API says %s", out)
			}
		})
	}
}

// testLogsOfAllNodes has the API server speak to each kubelet, whose
// certificates it verifies.
func testLogsOfAllNodes(t *testing.T, c *cluster) {
	for _, n := range c.nodeNames(t) {
		if _, err := c.try(t, "logs", c.podOn(t, "everywhere", n)); err != nil {
			t.Errorf("logs from %s: %v", n, err)
		}
	}
}

// testCertificatesOfNodes looks for requests that nobody has decided about.
func testCertificatesOfNodes(t *testing.T, c *cluster) {
	within(t, time.Minute, func() error {
		out := c.kubectl(t, "get", "csr", "--no-headers")
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "Approved,Issued") {
				return fmt.Errorf("not issued: %s", line)
			}
		}
		if n := strings.Count(out, "\n"); n != 6 {
			return fmt.Errorf("%d requests, expected three for each of two nodes:\n%s", n, out)
		}
		return nil
	})
}

// testJoinRefused joins with what must not work, on the machine of the server
// but with directories of its own.
func testJoinRefused(t *testing.T, c *cluster) {
	r := c.run(t, time.Minute, "token", "create", "--ttl=1h", "--description=e2e")
	fields := strings.Fields(r.stdout)
	if len(fields) != 6 || fields[3] != "--token" {
		t.Fatalf("token create printed %q %q", r.stdout, r.stderr)
	}
	server, good := fields[2], fields[4]
	parts := strings.Split(good, ".")
	id := parts[0]
	for _, test := range []struct {
		name string
		args []string
		says string
	}{
		{"no token", []string{server}, "give the server's address and --token"},
		{"half a token", []string{server, "--token=" + parts[0] + "." + parts[1]}, "hash of the certificate authority is missing"},
		{"wrong secret", []string{server, "--token=" + parts[0] + ".0000000000000000." + parts[2]}, "does not know token"},
		{"wrong authority", []string{server, "--token=" + parts[0] + "." + parts[1] + "." + strings.Repeat("0", 64)}, "another cluster, or somebody is in between"},
		{"no server there", []string{"127.0.0.1:9", "--token=" + good}, "does not answer"},
		{"name taken", []string{server, "--token=" + good, "--node-name=" + c.nodeNames(t)[0]}, "choose another name with --node-name"},
		{"a server's data", []string{server, "--token=" + good, "--data-dir=" + dataDir}, "slipway already runs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"join", "--detach", "--data-dir=" + dir + "/data", "--run-dir=" + dir + "/run", "--node-name=new"}, test.args...)
			r := c.run(t, time.Minute, args...)
			if strings.Contains(test.says, "already runs") {
				// The second `join` on a machine that is a part of the cluster.
				if !strings.Contains(r.stdout, "up already") {
					t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
				}
				return
			}
			if r.status == 0 || !strings.Contains(r.stderr, test.says) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
				t.Errorf("status %d: %s, expected one line with %q", r.status, r.stderr, test.says)
			}
			if exists(dir + "/data") {
				t.Errorf("a join that was refused has left data")
			}
		})
	}
	if r := c.run(t, time.Minute, "token", "list"); !strings.Contains(r.stdout, id) || strings.Contains(r.stdout, parts[1]) {
		t.Errorf("token list: %s", r.stdout)
	}
	if r := c.run(t, time.Minute, "token", "delete", id); r.status != 0 {
		t.Errorf("token delete: %s", r.stderr)
	}
	within(t, 10*time.Second, func() error {
		r := c.run(t, time.Minute, "join", server, "--token="+good, "--node-name=new", "--data-dir="+t.TempDir()+"/data")
		if r.status == 0 || !strings.Contains(r.stderr, "does not know token") {
			return fmt.Errorf("a deleted token: status %d, %s", r.status, r.stderr)
		}
		return nil
	})
}

// testServiceOfNodeKilled kills what runs the node, not the node: pods go on
// and are adopted.
func testServiceOfNodeKilled(t *testing.T, c *cluster) {
	victim := c.nodeNames(t)[1]
	pod := c.podOn(t, "everywhere", victim)
	before := c.get(t, "pod/"+pod, "{.status.containerStatuses[0].containerID}")
	init := c.localNode(t, victim)
	service := childOf(t, init.PID)
	if err := process.Kill(service, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	wantName(t, talk.Ask(targets(c.podIPs(t, pod), 8080, 9000), 3), pod)
	within(t, time.Minute, func() error {
		if now := childOf(t, init.PID); now == service || now.PID == 0 {
			return fmt.Errorf("it has not been started again")
		}
		_, err := c.try(t, "logs", "--tail=1", pod)
		return err
	})
	if after := c.get(t, "pod/"+pod, "{.status.containerStatuses[0].containerID}"); after != before {
		t.Errorf("the pod was restarted: %s, before %s", after, before)
	}
}

// childOf returns the node's service below its first process.
func childOf(t testing.TB, parent int) process.Identity {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		for text := range strings.FieldsSeq(readFile(t, list)) {
			var pid int
			if _, err := fmt.Sscan(text, &pid); err != nil {
				continue
			}
			if strings.Contains(readFile(t, fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00join\x00") {
				if id, err := process.Identify(pid); err == nil {
					return id
				}
			}
		}
	}
	return process.Identity{}
}

// testNodeLost takes a node away as if its plug was pulled.
func testNodeLost(t *testing.T, c *cluster) {
	victim := c.nodeNames(t)[2]
	lost := c.podOn(t, "spread", victim)
	begin := time.Now()
	init := c.localNode(t, victim)
	if err := unix.Kill(init.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "wait", "--for=condition=Ready=Unknown", "node/"+victim, "--timeout=120s")
	t.Logf("node NotReady after %.1f s", time.Since(begin).Seconds())
	within(t, 2*time.Minute, func() error {
		onOthers := c.kubectl(t, "get", "pods", "-l", "app=spread", "-o",
			`jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name}{" "}{.spec.nodeName}{"\n"}{end}`)
		alive := 0
		for line := range strings.Lines(onOthers) {
			if !strings.Contains(line, " "+victim) {
				alive++
			}
		}
		if alive != replicas {
			return fmt.Errorf("%d pods on other nodes, expected %d:\n%s", alive, replicas, onOthers)
		}
		return nil
	})
	t.Logf("its pods run elsewhere after %.1f s", time.Since(begin).Seconds())
	// Nobody is sent to the dead node any more.
	within(t, 30*time.Second, func() error {
		for _, a := range talk.Ask(targets(c.serviceIPs(t, "everywhere"), 80, 9000), enough) {
			if a.Error != "" || len(a.Names) != replicas-1 {
				return fmt.Errorf("expected answers of %d servers: %s", replicas-1, describe(a))
			}
		}
		return nil
	})

	if r := c.run(t, time.Minute, "status"); r.status == 0 || !strings.Contains(r.stdout, "slipway nodes start "+victim) {
		t.Errorf("status: %d\n%s", r.status, r.stdout)
	}
	r := c.run(t, 2*time.Minute, "nodes", "start", victim)
	if r.status != 0 {
		t.Fatalf("nodes start: %s%s", r.stdout, r.stderr)
	}
	c.kubectl(t, "wait", "--for=condition=Ready", "node/"+victim, "--timeout=60s")
	// What had been replaced is cleared away there.
	within(t, 2*time.Minute, func() error {
		if _, err := c.try(t, "get", "pod", lost); err == nil {
			return fmt.Errorf("pod %s, which was replaced, is still there", lost)
		}
		return nil
	})
	c.waitEverywhere(t)
	within(t, time.Minute, func() error {
		return fromAll(talk.Ask(targets(c.serviceIPs(t, "everywhere"), 80, 9000), enough))
	})
}

// testNodesAfterDown expects all nodes back without a word about them.
func testNodesAfterDown(t *testing.T, c *cluster) {
	names := c.nodeNames(t)
	c.down(t)
	if pids := nodeProcesses(t); len(pids) > 0 {
		t.Errorf("processes of nodes are left: %v", pids)
	}
	c.flags = nil
	c.up(t)
	if now := c.nodeNames(t); !slices.Equal(now, names) {
		t.Errorf("nodes %v, before %v", now, names)
	}
	c.kubectl(t, "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
	within(t, time.Minute, func() error {
		return fromAll(talk.Ask(targets(c.serviceIPs(t, "everywhere"), 80, 9000), enough))
	})
}

func nodeProcesses(t testing.TB) []process.Identity {
	t.Helper()
	found, err := process.Find(func(argv []string) bool { return len(argv) > 1 && argv[1] == "local-node" })
	if err != nil {
		t.Fatal(err)
	}
	return found
}
