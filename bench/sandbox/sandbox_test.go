// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/internal/roottest"
)

func TestMain(m *testing.M) {
	_, inside := os.LookupEnv(stageVariable)
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if inside {
		if err := part(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// seen is what a part finds in its sandbox.
type seen struct {
	Hostname          string
	PID               int
	Links             []string
	Lib, Run, Mounted []string
}

// part looks around, and leaves traces that must not be found outside.
func part() error {
	var s seen
	var err error
	if s.Hostname, err = os.Hostname(); err != nil {
		return err
	}
	s.PID = os.Getpid()
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		s.Links = append(s.Links, l.Attrs().Name)
	}
	s.Lib, s.Run, s.Mounted = names("/var/lib"), names("/run"), names(Programs+"/given")
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := os.Mkdir(filepath.Join(h.dir, "left"), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/var/lib/left", nil, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/vm/panic_on_oom", []byte("1"), 0o644); err != nil {
		return err
	}
	return Finish(s)
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestRootRun(t *testing.T) {
	roottest.Require(t)
	given := t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "program"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	before := readSettings()
	dir := t.TempDir()
	var got seen
	if err := Run(t.Context(), Config{Dir: dir, Mounts: map[string]string{"given": given}, Log: os.Stderr}, &got); err != nil {
		t.Fatal(err)
	}
	if got.PID == 1 || got.PID == 0 {
		t.Errorf("the part is process %d: nobody reaps orphans", got.PID)
	}
	got.PID = 0
	want := seen{
		Hostname: Hostname, Links: []string{"lo", "wire", "eth0"},
		Run: []string{"bench"}, Mounted: []string{"program"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in the sandbox, -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(before, readSettings()); diff != "" {
		t.Errorf("kernel settings, -before +after:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"left"}, names(filepath.Join(dir, "var/lib"))); diff != "" {
		t.Errorf("data, -want +got:\n%s", diff)
	}
	leftovers, err := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/slipway-bench-%d", os.Getpid()))
	if err != nil || len(leftovers) > 0 {
		t.Errorf("cgroups are left: %v %v", leftovers, err)
	}
}

func TestRootRunFails(t *testing.T) {
	roottest.Require(t)
	var got seen
	err := Run(t.Context(), Config{Dir: t.TempDir(), Mounts: map[string]string{"given": "/nowhere"}, Log: os.Stderr}, &got)
	if err == nil {
		t.Error("a directory that is not there is mounted")
	}
}

func TestControllers(t *testing.T) {
	for options, want := range map[string]string{
		"rw,cpu,cpuacct":                     "cpu,cpuacct",
		"rw,xattr,name=systemd":              "name=systemd",
		"rw,cpuset,clone_children":           "cpuset",
		"rw,nsdelegate,memory_recursiveprot": "",
		"rw,memory,release_agent=/x":         "memory",
	} {
		if got := controllers(options); got != want {
			t.Errorf("controllers(%q) = %q, want %q", options, got, want)
		}
	}
}
