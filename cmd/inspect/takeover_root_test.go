// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// TestRootTakeOverCommands cleans up after kube-proxy and gives the node back, in
// the wrong order first.
func TestRootTakeOverCommands(t *testing.T) {
	roottest.Require(t)
	pins, ns := filepath.Join(roottest.BPFFS(t), "slipway"), roottest.NetNS(t)
	command := func(want, args string) {
		t.Helper()
		roottest.In(t, ns, func() error {
			if got := run(t, pins, strings.Fields(args)...); !strings.HasPrefix(got, want) {
				t.Errorf("%s: got %q, expected %q", args, got, want)
			}
			return nil
		})
	}
	rules := func() {
		t.Helper()
		roottest.In(t, ns, func() error {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader("table ip kube-proxy { }\n")
			return cmd.Run()
		})
	}
	removing := "removing nftables: table ip kube-proxy\n"

	command("nothing of kube-proxy is left on this node\n", "proxy cleanup")
	rules()
	command("would remove nftables: table ip kube-proxy\n", "proxy cleanup --dry-run")
	command("error: no data path on this machine", "proxy cleanup")
	d, err := bpf.Open(bpf.Config{PinDir: pins, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	command("error: the data path of this node serves no Services (0 frontends, 0 socket hooks): start slipway first", "proxy cleanup")
	if err := d.AttachSock(roottest.Cgroup(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.SetFrontend(bpf.Frontend{Addr: netip.MustParseAddr("198.18.96.1"), Port: 80, Protocol: bpf.ProtocolTCP}, bpf.Range{}); err != nil {
		t.Fatal(err)
	}
	stop := startAs(t, ns, "kube-proxy")
	command("error: kube-proxy still runs on this node (process ", "proxy cleanup")
	stop()
	command(removing, "proxy cleanup")

	command("error: kube-proxy has no rules on this node", "proxy remove")
	rules()
	stop = startAs(t, ns, "slipway-agent")
	command("error: slipway still runs on this node (process ", "proxy remove")
	stop()
	command("the data path is removed; netfilter has 0 connections from other hosts, and could not take 0\n", "proxy remove")
	command("error: no data path on this machine", "proxy remove")
	command("error: no data path on this machine", "proxy cleanup")
	command(removing, "proxy cleanup --force")
}

// startAs starts a process under a name in a network namespace, and returns what
// ends it.
func startAs(t *testing.T, ns netns.NsHandle, name string) (stop func()) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Args[0] = name
	roottest.In(t, ns, cmd.Start)
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	return stop
}
