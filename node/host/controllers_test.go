// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"slipway.dev/slipway/internal/roottest"
)

// fakeRoot is a directory with the files of the root of cgroup v2. Its
// subtree_control holds what was written last.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindControllers(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  Controllers
	}{
		"all there, none enabled": {
			map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n", "cgroup.subtree_control": "\n"},
			Controllers{Disabled: []string{"cpu", "cpuset", "memory", "pids", "hugetlb", "io"}},
		},
		"as systemd leaves it": {
			map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n", "cgroup.subtree_control": "memory pids\n"},
			Controllers{Disabled: []string{"cpu", "cpuset", "hugetlb", "io"}},
		},
		"cgroup_disable=memory": {
			map[string]string{"cgroup.controllers": "cpuset cpu io pids\n", "cgroup.subtree_control": "cpuset cpu io pids\n"},
			Controllers{Missing: []string{"memory"}},
		},
		"a container without huge pages": {
			map[string]string{"cgroup.controllers": "cpuset cpu memory pids\n", "cgroup.subtree_control": "cpuset cpu memory pids\n", "cgroup.type": "domain\n", "cgroup.procs": "1\n"},
			Controllers{},
		},
		"a container with its processes in the root": {
			map[string]string{"cgroup.controllers": "cpuset cpu memory pids\n", "cgroup.subtree_control": "\n", "cgroup.type": "domain\n", "cgroup.procs": "1\n7\n"},
			Controllers{Disabled: []string{"cpu", "cpuset", "memory", "pids"}, Crowded: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findUnified(fakeRoot(t, c.files))
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestFindHierarchies(t *testing.T) {
	root := fakeRoot(t, map[string]string{"cpu/tasks": "", "cpuset/tasks": "", "pids/tasks": ""})
	if diff := cmp.Diff(Controllers{Missing: []string{"memory"}}, findHierarchies(root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestControllersAreTakenBack enables one and disables it again, unless it is in use
// by then.
func TestControllersAreTakenBack(t *testing.T) {
	for name, c := range map[string]struct {
		later map[string]string
		want  string
	}{
		"nobody uses it":      {map[string]string{"other/memory.max": "max\n"}, "-memory"},
		"another has a limit": {map[string]string{"other/memory.max": "1048576\n"}, "+memory"},
		"another throttles":   {map[string]string{"other/memory.high": "1048576\n"}, "+memory"},
	} {
		t.Run(name, func(t *testing.T) {
			root := fakeRoot(t, map[string]string{"cgroup.controllers": "cpuset cpu memory pids\n", "cgroup.subtree_control": "cpuset cpu pids\n"})
			path := filepath.Join(t.TempDir(), "host.json")
			j, err := OpenJournal(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.enableControllersAt(root); err != nil {
				t.Fatal(err)
			}
			again, err := OpenJournal(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"memory"}, again.entries.Controllers); diff != "" {
				t.Errorf("journal (-want +got):\n%s", diff)
			}
			for name, text := range c.later {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			again.disableControllersAt(root)
			last, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
			if err != nil || string(last)[:7] != c.want[:7] {
				t.Errorf("%q was written last (error %v), want %q", last, err, c.want)
			}
		})
	}
}

// TestRootControllersOfTheKernel enables what this machine has to enable, and takes it
// back.
func TestRootControllersOfTheKernel(t *testing.T) {
	roottest.Require(t)
	root, err := Unified()
	if err != nil {
		t.Skip(err)
	}
	before, err := controllersIn(root, "cgroup.subtree_control")
	if err != nil {
		t.Fatal(err)
	}
	found, err := findUnified(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Disabled) == 0 || found.Crowded {
		t.Skipf("nothing can be enabled here: %+v", found)
	}
	j, err := OpenJournal(filepath.Join(t.TempDir(), "host.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.enableControllersAt(root); err != nil {
		t.Fatal(err)
	}
	now, err := findUnified(root)
	if err != nil || len(now.Disabled) > 0 {
		t.Errorf("still to be enabled: %+v (error %v)", now, err)
	}
	j.disableControllersAt(root)
	after, err := controllersIn(root, "cgroup.subtree_control")
	if diff := cmp.Diff(before, after, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("error %v, enabled (-before +after):\n%s", err, diff)
	}
}
