// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPage(t *testing.T) {
	p, err := input{
		known: "testdata/known.yaml", nodes: "testdata/nodes.json", list: "testdata/list.yaml", results: "testdata/results",
	}.read()
	if err != nil {
		t.Fatal(err)
	}
	p.date = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	got := strings.TrimPrefix(p.render(), preface)
	want, err := os.ReadFile("testdata/page.md")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("page:\n%s\nwant:\n%s", got, want)
	}
	if n := p.unexplained(); n != 3 {
		t.Errorf("%d are unexplained, want 3", n)
	}
}

func TestRunFails(t *testing.T) {
	in := input{known: "testdata/known.yaml", nodes: "testdata/nodes.json", results: "testdata/results"}
	out := filepath.Join(t.TempDir(), "page.md")
	if err := run(in, out); err == nil || !strings.Contains(err.Error(), "1 tests") {
		t.Errorf("got error %v, want one of 1 tests", err)
	}
	in.results = t.TempDir()
	if err := run(in, out); err == nil || !strings.Contains(err.Error(), "no test") {
		t.Errorf("without results: got error %v", err)
	}
}

// TestKnown finds reasons for tests that upstream no longer has.
func TestKnown(t *testing.T) {
	var known map[string]string
	if err := readYAML("../known.yaml", &known); err != nil {
		t.Fatal(err)
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	list, err := readList(filepath.Join(strings.TrimSpace(string(dir)), "test/conformance/testdata/conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for text, reason := range known {
		if reason == "" || !slices.ContainsFunc(list, func(name string) bool { return strings.Contains(name, text) }) {
			t.Errorf("%q: no test of upstream's list, or no reason", text)
		}
	}
}
