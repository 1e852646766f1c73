// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/test/e2e/talk"
)

// loadWorkers is how many workers keep a connection, and how many make new
// ones, for each target.
const loadWorkers = 2

// testKill9 kills the slipway process under a load between pods and starts it
// again: no request fails, and no pod notices.
func testKill9(t *testing.T, c *cluster) {
	load := c.startLoad(t, targets(c.serviceIPs(t, "echo"), 80, 9000))
	load.waitMore(t, 100)
	before, containerd := c.podFacts(t), c.pid(t, "containerd")

	killed := c.pid(t, "slipway")
	kill9(t, killed)
	load.waitMore(t, 300)
	if r := c.run(t, 30*time.Second, "status"); r.status == 0 || !strings.Contains(r.stdout, "not running") {
		t.Errorf("status without the process: %d\n%s", r.status, r.stdout)
	}
	r := c.up(t)
	t.Logf("up after kill -9 took %.1f s:\n%s", r.took.Seconds(), r.stdout)
	if !strings.Contains(r.stdout, "containerd adopted") {
		t.Error("up does not say that it adopted containerd")
	}
	load.waitMore(t, 300)

	if pid := c.pid(t, "slipway"); pid == killed {
		t.Errorf("process %d was not killed", pid)
	}
	if pid := c.pid(t, "containerd"); pid != containerd {
		t.Errorf("containerd is process %d, was %d: it was not adopted", pid, containerd)
	}
	c.wantFollows(t)
	if after := c.podFacts(t); after != before {
		t.Errorf("pods were\n%s\nand are\n%s", before, after)
	}
	load.finish(t)
}

// kill9 kills a process and waits for its end.
func kill9(t testing.TB, pid int) {
	t.Helper()
	id, err := process.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, func() error {
		if id.Alive() {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}

// podFacts is what must not change of the pods in base.yaml when slipway is
// killed.
func (c *cluster) podFacts(t testing.TB) string {
	t.Helper()
	return c.kubectl(t, "get", "pods", "-l", "app in (echo, client, keeper)", "--sort-by=.metadata.name", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIPs[*].ip} {.status.containerStatuses[*].containerID} `+
			`restarts {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
}

// wantFollows finds that the cluster goes on: a new pod runs, and Services
// follow their endpoints.
func (c *cluster) wantFollows(t *testing.T) {
	t.Helper()
	c.kubectl(t, "apply", "-f", "testdata/tools.yaml")
	defer c.kubectl(t, "delete", "-f", "testdata/tools.yaml", "--wait=false")
	c.kubectl(t, "rollout", "status", "deployment/tools", "--timeout=60s")
	c.kubectl(t, "expose", "deployment/tools", "--port=80", "--target-port=http")
	defer c.kubectl(t, "delete", "service/tools")
	addr := netip.AddrPortFrom(c.addresses(t, "service/tools", "{.spec.clusterIP}")[0], 80).String()
	want := c.pods(t, "tools")[0]
	within(t, 30*time.Second, func() error {
		a := talk.Ask([]talk.Target{{Kind: talk.HTTP, Addr: addr}}, 1)[0]
		if a.Names[want] == 0 {
			return errors.New(describe(a))
		}
		return nil
	})
}

// load is a pod that puts a load on targets.
type load struct {
	// control is where it tells its counts.
	control string
	kinds   int
}

func (c *cluster) startLoad(t *testing.T, targets []talk.Target) *load {
	t.Helper()
	args := []string{"load", fmt.Sprintf("-workers=%d", loadWorkers)}
	for _, target := range targets {
		args = append(args, target.String())
	}
	quoted, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("testdata/load.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.apply(t, strings.Replace(string(manifest), "[ARGS]", string(quoted), 1))
	t.Cleanup(func() { c.kubectl(t, "delete", "pod", "load", "--ignore-not-found") })
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/load", "--timeout=60s")
	at := netip.AddrPortFrom(c.podIPs(t, "load")[0], 8081)
	return &load{control: "http://" + at.String(), kinds: 2 * len(targets)}
}

// counts asks the pod directly, which works without the API.
func (l *load) counts(method, path string) (map[string]talk.Count, error) {
	request, err := http.NewRequest(method, l.control+path, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var counts map[string]talk.Count
	return counts, json.NewDecoder(response.Body).Decode(&counts)
}

// waitMore waits until every kind of request has been made n times more.
func (l *load) waitMore(t testing.TB, n int) {
	t.Helper()
	begin, err := l.counts(http.MethodGet, "/")
	if err != nil {
		t.Fatal(err)
	}
	within(t, 60*time.Second, func() error {
		now, err := l.counts(http.MethodGet, "/")
		if err != nil {
			return err
		}
		if len(now) != l.kinds {
			return fmt.Errorf("%d kinds of requests, expected %d", len(now), l.kinds)
		}
		for name, count := range now {
			before := begin[name]
			if done := count.OK + count.Failed - before.OK - before.Failed; done < n {
				return fmt.Errorf("%s: %d requests, expected %d", name, done, n)
			}
		}
		return nil
	})
}

// finish ends the load and fails the test for every request that failed and
// every connection that did not last.
func (l *load) finish(t *testing.T) {
	t.Helper()
	counts, err := l.counts(http.MethodPost, "/stop")
	if err != nil {
		t.Fatal(err)
	}
	total := talk.Count{}
	for _, name := range talk.Names(counts) {
		count := counts[name]
		t.Logf("%-40s %6d ok %3d failed %6d connections", name, count.OK, count.Failed, count.Connections)
		if count.Failed != 0 {
			t.Errorf("%s: %d requests failed:\n%s", name, count.Failed, strings.Join(count.Errors, "\n"))
		}
		if strings.HasPrefix(name, "kept ") && count.Connections != loadWorkers {
			t.Errorf("%s: %d connections, expected that %d are kept", name, count.Connections, loadWorkers)
		}
		total.OK += count.OK
		total.Failed += count.Failed
	}
	t.Logf("in total %d requests ok, %d failed", total.OK, total.Failed)
}
