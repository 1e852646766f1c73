// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testConfig(t *testing.T) Config {
	dir := t.TempDir()
	return Config{
		Executable: "/usr/bin/slipway", Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		BinDir: "/data/bin", CNIConfDir: "/run/cni", SandboxImage: "slipway.dev/pause:v1", LogFile: filepath.Join(dir, "log"),
	}
}

func TestRender(t *testing.T) {
	for restrict, want := range map[bool]string{true: "restrict_oom_score_adj = true", false: "restrict_oom_score_adj = false"} {
		cfg := testConfig(t)
		cfg.RestrictOOMScore = restrict
		text, err := cfg.render()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"version = 3", `root = "` + cfg.Root + `"`, `address = "` + cfg.Socket() + `"`, want,
			`runtime_path = "/data/bin/containerd-shim-runc-v2"`, `sandbox = "slipway.dev/pause:v1"`, `conf_dir = "/run/cni"`,
		} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	cfg := testConfig(t)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.SandboxImage = ""
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "sandbox image") {
		t.Errorf("got %v", err)
	}
}

func TestStateLost(t *testing.T) {
	cfg := testConfig(t)
	if !StateLost(cfg) {
		t.Error("a daemon is known that never was")
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.recordFile(), []byte(`{"pid":1,"start":1,"boot":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if StateLost(cfg) {
		t.Error("the record is not found")
	}
	if pid := Pid(cfg); pid != 0 {
		t.Errorf("process 1 of another boot is taken for the daemon: %d", pid)
	}
}

func TestFollows(t *testing.T) {
	argv := []string{"shim", "-namespace", "k8s.io", "-address", "/run/x.sock"}
	if !follows(argv, "-address", "/run/x.sock") || follows(argv, "-address", "/run/y.sock") || follows(argv, "/run/x.sock", "") {
		t.Error("arguments are not told apart")
	}
}
