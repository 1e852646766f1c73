// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/node/host"
)

func TestSayControllers(t *testing.T) {
	for name, c := range map[string]struct {
		found host.Controllers
		ok    bool
		want  []string
	}{
		"all":      {host.Controllers{}, true, []string{"cgroup v2 at /c"}},
		"disabled": {host.Controllers{Disabled: []string{"cpu", "pids"}}, true, []string{"cpu, pids will be enabled"}},
		"missing":  {host.Controllers{Missing: []string{"memory"}}, false, []string{"memory", "cgroup_disable", "cgroup_enable=memory"}},
		"crowded":  {host.Controllers{Disabled: []string{"cpu"}, Crowded: true}, false, []string{"cpu", "/c/init"}},
	} {
		check := sayControllers("/c", c.found)
		if check.OK != c.ok {
			t.Errorf("%s: %+v", name, check)
		}
		for _, want := range c.want {
			if !strings.Contains(check.Says+check.Do, want) {
				t.Errorf("%s: %+v does not say %q", name, check, want)
			}
		}
	}
}

// TestRootCheckSaysWhatUpRefuses sees that whatever ends a start is a line that
// fails, with the same words.
func TestRootCheckSaysWhatUpRefuses(t *testing.T) {
	roottest.Require(t)
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	cfg := valid()
	cfg.DataDir, cfg.APIPort = filepath.Join(t.TempDir(), "data"), uint16(listener.Addr().(*net.TCPAddr).Port)
	cfg.NodeIPs = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	refusal := Preflight(cfg)
	if refusal == nil || !strings.Contains(refusal.Error(), "already in use") || !strings.Contains(refusal.Error(), "--node-ip") {
		t.Fatalf("a start is refused with %v", refusal)
	}
	failed := 0
	for _, c := range CheckMachine(t.Context(), cfg) {
		if !c.OK {
			failed++
			if !strings.Contains(refusal.Error(), c.Name+": "+c.Says) {
				t.Errorf("check says %+v, a start is refused with %v", c, refusal)
			}
		}
	}
	if lines := strings.Count(refusal.Error(), "\n") + 1; failed != lines {
		t.Errorf("%d lines fail, a start is refused for %d reasons: %v", failed, lines, refusal)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("it has made the data directory")
	}
}

func TestNoteNetworks(t *testing.T) {
	dir := t.TempDir()
	if got := noteNetworks(dir); got != nil {
		t.Errorf("an empty directory: %+v", got)
	}
	for _, name := range []string{"10-flannel.conflist", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := noteNetworks(dir)
	if len(got) != 1 || !got[0].OK || !got[0].Note || !strings.Contains(got[0].Says, "10-flannel.conflist") || strings.Contains(got[0].Says, "README") {
		t.Errorf("got %+v", got)
	}
}
