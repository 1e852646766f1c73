// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/test/kernels/result"
)

func TestCompareVersions(t *testing.T) {
	names := []string{
		"linux-image-6.12.117+deb13-amd64", "linux-image-7.3.4+deb13-amd64", "linux-image-6.12.9+deb13-amd64", "linux-image-7.10.1+deb13-amd64",
	}
	slices.SortFunc(names, compareVersions)
	want := []string{
		"linux-image-6.12.9+deb13-amd64", "linux-image-6.12.117+deb13-amd64", "linux-image-7.3.4+deb13-amd64", "linux-image-7.10.1+deb13-amd64",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestChoose(t *testing.T) {
	if chosen, err := choose([]string{"newest", "6.1"}); err != nil || len(chosen) != 2 || chosen[1].name != "6.1" {
		t.Errorf("chose %v, %v", chosen, err)
	}
	if _, err := choose([]string{"2.6"}); err == nil || !strings.Contains(err.Error(), "expected one of 5.10, 6.1") {
		t.Errorf("an unknown kernel: %v", err)
	}
	if _, err := chooseParts([]string{"lode"}); err == nil || !strings.Contains(err.Error(), "expected one of load") {
		t.Errorf("an unknown part: %v", err)
	}
}

// TestParts finds that parts name kernels that exist, and differ in name.
func TestParts(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range parts() {
		if seen[p.name] {
			t.Errorf("two parts are called %s", p.name)
		}
		seen[p.name] = true
		names := p.kernels
		if p.upgrade != "" {
			names = append(slices.Clone(names), p.upgrade)
		}
		if _, err := choose(names); err != nil || len(names) == 0 {
			t.Errorf("part %s: %v", p.name, err)
		}
	}
}

// TestCpio lets another program unpack an archive.
func TestCpio(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed")
	}
	var a cpio
	a.add("dir", modeDir|0o755, nil)
	a.add("dir/file", modeFile|0o644, []byte("content"))
	a.add("dir/link", modeLink|0o777, []byte("file"))
	dir := t.TempDir()
	cmd := exec.Command("cpio", "--extract", "--quiet")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(a.bytes()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(dir + "/dir/link")
	if err != nil || string(data) != "content" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestPage(t *testing.T) {
	p := makePage([]trial{
		{Kernel: "5.10", Part: "refused", Release: "5.10.0", Passed: true, Lines: []result.Line{
			{Kind: result.Check, Name: "tcx", Says: "not | there"},
		}},
		{Kernel: "6.1", Part: "load", Release: "6.1.0", Lines: []result.Line{
			{Kind: result.Check, Name: "tcx", OK: true, Mode: "fallback", Says: "clsact"},
			{Kind: result.Check, Name: "port 80", OK: true, Says: "free"},
			{Kind: result.Program, Name: "pod_from", OK: true, Seconds: 1.25},
			{Kind: result.Program, Name: "wire", Says: "permission denied"},
		}},
		{Kernel: "6.1", Part: "cluster", Release: "6.1.0", Lines: []result.Line{{Kind: result.Step, Name: "up", OK: true, Seconds: 60}}},
	})
	want := page{
		Kernels: []kernelRow{
			{Name: "5.10", Origin: "Debian 11", Arch: "amd64", Release: "5.10.0"},
			{Name: "6.1", Origin: "Debian 12", Arch: "amd64", Release: "6.1.0"},
		},
		Columns:  []string{"5.10", "6.1"},
		Checks:   []tableRow{{"tcx", []string{"refused", "fallback"}}},
		Programs: []tableRow{{"pod_from", []string{"", "ok, 1.2 s"}}, {"wire", []string{"", "failed"}}},
		Remarks:  []string{`5.10, tcx: not \| there`, "6.1, tcx: clsact"},
	}
	p.Trials, p.Steps = nil, nil
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
}

func TestSetupPackages(t *testing.T) {
	script, err := os.ReadFile("../../deploy/setup")
	if err != nil {
		t.Fatal(err)
	}
	got := setupPackages(string(script))
	for _, want := range []string{"git", "runc", "e2fsprogs", "gcc"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	for _, other := range []string{"clang", "debootstrap"} {
		if slices.Contains(got, other) {
			t.Errorf("%s is not for running", other)
		}
	}
}
