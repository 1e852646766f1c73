// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/roottest"
)

// maxBinary is how large the CNI executable may be, in bytes.
const maxBinary = 4 << 20

// executable is the real slipway-cni, run as a container runtime runs it.
type executable struct {
	t    *testing.T
	path string
}

func buildExecutable(t *testing.T) executable {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slipway-cni")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "slipway.dev/slipway/cmd/slipway-cni")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build slipway-cni: %v\n%s", err, out)
	}
	return executable{t: t, path: path}
}

// answer is what the executable has printed.
type answer struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`

	SupportedVersions []string `json:"supportedVersions"`
	IPs               []struct {
		Version string       `json:"version"`
		Address netip.Prefix `json:"address"`
	} `json:"ips"`

	// raw is all of it, and empty whether that was nothing.
	raw   json.RawMessage
	empty bool
}

// run runs it; environment variables without a value are left out.
func (e executable) run(env map[string]string, config json.RawMessage) answer {
	e.t.Helper()
	command := exec.CommandContext(e.t.Context(), e.path)
	command.Env = []string{"CNI_PATH=" + filepath.Dir(e.path)}
	for name, value := range env {
		if value != "" {
			command.Env = append(command.Env, name+"="+value)
		}
	}
	command.Stdin = bytes.NewReader(config)
	out, err := command.Output()
	got := answer{raw: out, empty: len(out) == 0}
	if !got.empty {
		if err := json.Unmarshal(out, &got); err != nil {
			e.t.Fatalf("output %q: %v", out, err)
		}
	}
	// CNI specification section 2: an exit status other than 0 goes with an
	// error object.
	if (err != nil) != (got.Code != 0) {
		e.t.Fatalf("exit %v with output %s", err, out)
	}
	return got
}

func podEnv(verb string, p *pod) map[string]string {
	return map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": p.id, "CNI_NETNS": nsPath(p.ns), "CNI_IFNAME": "eth0",
		"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=7",
	}
}

func TestRootExecutable(t *testing.T) {
	roottest.Require(t)
	cni := buildExecutable(t)
	info, err := os.Stat(cni.path)
	if err != nil || info.Size() > maxBinary {
		t.Errorf("executable has %d bytes, at most %d are wanted; %v", info.Size(), maxBinary, err)
	}
	l := newLab(t)
	p := l.newPod("0123456789abcdef")
	l.start()

	// The configuration as a runtime derives it from our file.
	var list struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	data, err := os.ReadFile(filepath.Join(l.cfg.ConfDir, "10-slipway.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil || list.CNIVersion != "1.1.0" || len(list.Plugins) != 1 || list.Plugins[0]["type"] != "slipway-cni" {
		t.Fatalf("configuration %s: %v", data, err)
	}
	config := func(more map[string]any) json.RawMessage {
		fields := map[string]any{"cniVersion": list.CNIVersion, "name": list.Name}
		for _, from := range []map[string]any{list.Plugins[0], more} {
			for name, value := range from {
				fields[name] = value
			}
		}
		data, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	added := cni.run(podEnv("ADD", p), config(nil))
	if added.CNIVersion != "1.1.0" || len(added.IPs) != 2 {
		t.Fatalf("ADD: %s", added.raw)
	}
	connect(t, l.node, p.ns, added.IPs[0].Address.Addr())
	for verb, more := range map[string]map[string]any{
		"CHECK":  {"prevResult": added.raw},
		"STATUS": nil,
		"GC":     {"cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: p.id, IfName: "eth0"}}},
	} {
		if got := cni.run(podEnv(verb, p), config(more)); !got.empty {
			t.Errorf("%s: %s", verb, got.raw)
		}
	}
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0"} {
		got := cni.run(podEnv("ADD", p), config(map[string]any{"cniVersion": version}))
		if got.CNIVersion != version || len(got.IPs) != 2 || (got.IPs[0].Version != "") != (version < "1") {
			t.Errorf("ADD with version %s: %s", version, got.raw)
		}
	}
	gone := podEnv("DEL", p)
	gone["CNI_NETNS"] = ""
	for range 2 {
		if got := cni.run(gone, config(nil)); !got.empty {
			t.Errorf("DEL: %s", got.raw)
		}
	}
	wantLeftovers(t, l, count(0))
	got := cni.run(map[string]string{"CNI_COMMAND": "VERSION"}, json.RawMessage(`{"cniVersion":"1.1.0"}`))
	if diff := cmp.Diff([]string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}, got.SupportedVersions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}

func TestRootExecutableErrors(t *testing.T) {
	roottest.Require(t)
	cni := buildExecutable(t)
	l := newLab(t)
	l.start()
	p := l.newPod("c1")
	with := func(verb, name, value string) map[string]string {
		env := podEnv(verb, p)
		env[name] = value
		return env
	}
	tests := []struct {
		name   string
		env    map[string]string
		config json.RawMessage
		code   uint
	}{
		{"no interface name", with("ADD", "CNI_IFNAME", ""), l.config(nil), types.ErrInvalidEnvironmentVariables},
		{"bad container", with("ADD", "CNI_CONTAINERID", "../x"), l.config(nil), types.ErrInvalidEnvironmentVariables},
		{"unknown verb", with("UPDATE", "CNI_IFNAME", "eth0"), l.config(nil), types.ErrInvalidEnvironmentVariables},
		{"no JSON", podEnv("ADD", p), json.RawMessage("{"), types.ErrDecodingFailure},
		{"future version", podEnv("ADD", p), l.config(map[string]any{"cniVersion": "9.0.0"}), types.ErrIncompatibleCNIVersion},
		{"STATUS in an old version", podEnv("STATUS", p), l.config(map[string]any{"cniVersion": "1.0.0"}), types.ErrIncompatibleCNIVersion},
		{"no namespace", with("ADD", "CNI_NETNS", "/run/netns/none"), l.config(nil), types.ErrInvalidNetNS},
		{"CHECK of nothing", podEnv("CHECK", p), l.config(nil), types.ErrUnknownContainer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := cni.run(tt.env, tt.config)
			if got.Code != tt.code || got.Msg == "" || got.CNIVersion == "" {
				t.Errorf("got %s, want code %d", got.raw, tt.code)
			}
		})
	}
}

// TestRootExecutableWithoutAgent asks while no agent runs, and while one
// comes back.
func TestRootExecutableWithoutAgent(t *testing.T) {
	roottest.Require(t)
	cni := buildExecutable(t)
	l := newLab(t)
	p := l.newPod("c1")
	codes := map[string]uint{}
	for _, verb := range []string{"ADD", "DEL", "STATUS"} {
		start := time.Now()
		codes[verb] = cni.run(podEnv(verb, p), l.config(nil)).Code
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", verb, took)
		}
	}
	want := map[string]uint{"ADD": types.ErrTryAgainLater, "DEL": types.ErrTryAgainLater, "STATUS": types.ErrPluginNotAvailable}
	if diff := cmp.Diff(want, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	waiting := make(chan answer)
	go func() { waiting <- cni.run(podEnv("ADD", p), l.config(nil)) }()
	l.start()
	if got := <-waiting; got.Code != 0 || len(got.IPs) != 2 {
		t.Errorf("ADD while the agent starts: %s", got.raw)
	}
	l.stop()
	if got := cni.run(podEnv("DEL", p), l.config(nil)); got.Code != types.ErrTryAgainLater {
		t.Errorf("DEL after the agent stopped: %s", got.raw)
	}
	wantLeftovers(t, l, count(1))
}
