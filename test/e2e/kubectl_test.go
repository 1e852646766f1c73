// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// client is a kubectl: a command with its first arguments.
type client []string

func (c *cluster) ownClient() client { return client{c.path, "kubectl", "-n", "e2e"} }

func testKubectl(t *testing.T, c *cluster) { c.tryTools(t, c.ownClient()) }

// places are where Debian, Kubernetes' and Google's packages put kubectl.
var places = []string{"/usr/bin", "/usr/local/bin", "/usr/lib/google-cloud-sdk/bin"}

// testOlderKubectl uses every kubectl on this machine of another minor.
func testOlderKubectl(t *testing.T, c *cluster) {
	found := map[string]string{}
	for _, place := range places {
		paths, err := filepath.Glob(filepath.Join(place, "kubectl*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if minor := minorOf(path); minor != "" {
				found[minor] = path
			}
		}
	}
	if len(found) == 0 {
		t.Skip("there is no kubectl on this machine besides ours")
	}
	for minor, path := range found {
		t.Run(minor, func(t *testing.T) {
			c.tryTools(t, client{path, "--kubeconfig", kubeconfig, "-n", "e2e"})
		})
	}
}

var minorVersion = regexp.MustCompile(`v1\.\d+`)

// minorOf returns the minor version of a kubectl, nothing for other programs.
func minorOf(path string) string {
	out, err := exec.Command(path, "version", "--client").Output()
	if err != nil {
		return ""
	}
	return minorVersion.FindString(string(out))
}

// tryTools does with a kubectl what people do.
func (c *cluster) tryTools(t *testing.T, k client) {
	manifest := "testdata/tools.yaml"
	t.Cleanup(func() { c.kubectl(t, "delete", "-f", manifest, "--ignore-not-found", "--wait=false") })
	do := func(want string, args ...string) string {
		t.Helper()
		r := c.start(t, 90*time.Second, exec.Command(k[0], append(k[1:], args...)...))
		if r.status != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: status %d, expected %q:\n%s%s", strings.Join(args, " "), r.status, want, r.stdout, r.stderr)
		}
		return strings.TrimSpace(r.stdout)
	}
	do("deployment.apps/tools created", "apply", "-f", manifest)
	do("successfully rolled out", "rollout", "status", "deployment/tools", "--timeout=60s")
	do(c.node, "get", "nodes", "-o", "wide")
	pod := do("", "get", "pods", "-l", "app=tools", "-o", "jsonpath={.items[0].metadata.name}")
	do("serving as "+pod, "logs", "deployment/tools")
	do(`"Names":{"`+pod+`":2}`, "exec", pod, "--", "/app", "ask", "-n", "2", "http=127.0.0.1:8080")
	c.tryPortForward(t, k, pod)
	do("scaled", "scale", "deployment/tools", "--replicas=2")
	do("successfully rolled out", "rollout", "status", "deployment/tools", "--timeout=60s")

	do("env updated", "set", "env", "deployment/tools", "STEP=two")
	do("paused", "rollout", "pause", "deployment/tools")
	do("resumed", "rollout", "resume", "deployment/tools")
	do("successfully rolled out", "rollout", "status", "deployment/tools", "--timeout=60s")
	do("STEP", "get", "deployment/tools", "-o", "yaml")
	do("rolled back", "rollout", "undo", "deployment/tools")
	do("successfully rolled out", "rollout", "status", "deployment/tools", "--timeout=60s")
	if env := do("", "get", "deployment/tools", "-o", "jsonpath={.spec.template.spec.containers[0].env}"); env != "" {
		t.Errorf("after undo the environment is still %s", env)
	}
	do("KIND:", "explain", "deployment.spec.strategy.rollingUpdate")
	do("io.k8s.api.apps.v1.Deployment", "get", "--raw", "/openapi/v2")
	do("serverside-applied", "apply", "--server-side", "--force-conflicts", "--field-manager=e2e", "-f", manifest)
	do("deleted", "delete", "-f", manifest)
}

// tryPortForward speaks to a pod through kubectl port-forward.
func (c *cluster) tryPortForward(t *testing.T, k client, pod string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, k[0], append(k[1:], "port-forward", "pod/"+pod, ":9000")...)
	cmd.Env = c.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Errorf("port-forward says nothing: %v", err)
		return
	}
	match := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(first)
	addr, err := netip.ParseAddrPort(match)
	if err != nil {
		t.Errorf("port-forward says %q", first)
		return
	}
	answers := talk.Ask([]talk.Target{{Kind: talk.TCP, Addr: addr.String()}}, 3)[0]
	if answers.Names[pod] != 3 {
		t.Errorf("through port-forward: %s", describe(answers))
	}
}

func describe(a talk.Answers) string {
	return fmt.Sprintf("%s: from %v, seen as %v, at %v, error %q", a.Target, a.Names, a.Peers, a.Froms, a.Error)
}
