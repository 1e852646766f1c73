// SPDX-License-Identifier: Apache-2.0

// Package house checks the rules that the whole repository keeps: which
// package may see which, which modules we depend on and why, and that every
// file says its license. It has tests only.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "slipway.dev/slipway/"

// upstream is the source tree of Kubernetes' own components.
const upstream = "k8s.io/kubernetes"

// controlPlane is what the bundled cluster is made of besides the data plane.
var controlPlane = []string{"apiserver", "controller", "scheduler", "kubelet", "dns"}

// importRules say what packages never reach, directly or through others.
// Paths without a dot in their first element are ours; a path stands for all
// below it.
var importRules = []struct {
	from  []string
	never []string
	// except lists what is allowed although never has it.
	except []string
}{
	{from: []string{"bpf"}, never: []string{module}, except: []string{"bpf"}},
	{from: []string{"internal"}, never: []string{module}, except: []string{"internal", "bpf"}},
	{from: []string{"proxy"}, never: notDataPlane("cni", "csi", "ingress")},
	{from: []string{"cni"}, never: notDataPlane("proxy", "csi", "ingress")},
	{from: []string{"csi"}, never: notDataPlane("proxy", "cni", "ingress")},
	{from: []string{"ingress"}, never: notDataPlane("proxy", "cni", "csi")},
	{from: controlPlane, never: []string{"node", "cmd", "bpf", "proxy", "cni", "csi", "ingress"}},
	{from: []string{"node"}, never: []string{"cmd"}},
	// The data plane alone, for clusters that people already have.
	{from: []string{"node/agent", "cmd/slipway-agent"}, never: append([]string{upstream}, controlPlane...)},
	// The CNI executable runs for every pod: it must start in no time.
	{from: []string{"cmd/slipway-cni"}, never: append(notDataPlane("proxy", "csi", "ingress"),
		"k8s.io", "google.golang.org/grpc", "github.com/cilium/ebpf")},
}

// notDataPlane is what no part of the data plane reaches, and others given.
func notDataPlane(others ...string) []string {
	return append(append(others, upstream, "node", "cmd"), controlPlane...)
}

type listed struct {
	ImportPath string
	Deps       []string
}

func TestImports(t *testing.T) {
	packages := list(t)
	for _, rule := range importRules {
		for _, from := range rule.from {
			t.Run(strings.ReplaceAll(from, "/", "_"), func(t *testing.T) {
				found := false
				for _, pkg := range packages {
					if !within(pkg.ImportPath, from) {
						continue
					}
					found = true
					for _, dep := range pkg.Deps {
						if reaches(dep, rule.never) && !reaches(dep, rule.except) && !within(dep, from) {
							t.Errorf("%s reaches %s", pkg.ImportPath, dep)
						}
					}
				}
				if !found {
					t.Errorf("there is no package %s for this rule", from)
				}
			})
		}
	}
}

func TestWithin(t *testing.T) {
	for _, test := range []struct {
		path, of string
		want     bool
	}{
		{module + "cni", "cni", true},
		{module + "cni/ipam", "cni", true},
		{module + "cnix", "cni", false},
		{module + "bpf", module, true},
		{"k8s.io/kubernetes/pkg/apis", upstream, true},
		{"k8s.io/kubernetes", upstream, true},
		{"k8s.io/kubernetesx", upstream, false},
		{"cni", "cni", false},
	} {
		if got := within(test.path, test.of); got != test.want {
			t.Errorf("within(%q, %q) = %v, want %v", test.path, test.of, got, test.want)
		}
	}
}

func reaches(dep string, paths []string) bool {
	for _, path := range paths {
		if within(dep, path) {
			return true
		}
	}
	return false
}

// within tells whether an import path is the given path or below it.
func within(importPath, path string) bool {
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		path = module + path
	}
	path = strings.TrimSuffix(path, "/")
	return importPath == path || strings.HasPrefix(importPath, path+"/")
}

// list gives all packages of the module with everything they reach.
func list(t *testing.T) []listed {
	t.Helper()
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(run(t, "go", "list", "-json=ImportPath,Deps", module+"...")))
	for {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, pkg)
	}
}

// run gives what a command prints when run at the top of the repository.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", cmd, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
