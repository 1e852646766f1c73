// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// programNames are the programs of a node.
var programNames = []string{
	"slipway", "slipway-agent", "slipway-cni", "containerd", "containerd-shim-runc-v2", "runc", "pause",
}

// processes lists the processes of a node: its programs by name, and all that
// runs in its cgroup. Zombies are nobody's business but their parent's.
func processes() ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 {
			// Gone meanwhile, a zombie, or a thread of the kernel.
			continue
		}
		groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		argv := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if ofNode(argv, string(groups)) {
			out = append(out, strings.Join(argv, " "))
		}
	}
	return out, nil
}

// ofNode tells whether a process belongs to a node by its command line and
// its cgroups, see cgroups(7).
func ofNode(argv []string, groups string) bool {
	if slices.Contains(programNames, filepath.Base(argv[0])) {
		return true
	}
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[2] == "/slipway" || strings.HasPrefix(fields[2], "/slipway/")) {
			return true
		}
	}
	return false
}

// cgroups lists the cgroups at the top of every mounted hierarchy, and what is
// below those that a node may have made: other programs make and remove
// theirs as they like.
func cgroups() ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range table {
		if m.fsType != "cgroup" && m.fsType != "cgroup2" {
			continue
		}
		found, err := walk(m.point, func(path string, d fs.DirEntry) (string, bool) {
			top, rest, _ := strings.Cut(strings.TrimPrefix(path, m.point+"/"), "/")
			return path, d.IsDir() && (rest == "" || madeByNode.MatchString(top))
		})
		if err != nil {
			return nil, fmt.Errorf("hierarchy %s: %w", m.point, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// madeByNode matches the names at the top of a hierarchy that a node, its
// kubelet or its container runtime use, or would by mistake.
var madeByNode = regexp.MustCompile(`slipway|kube|k8s|pod|containerd|runc|cri`)

// walk returns a line for each entry at or below root that describe accepts.
// A root that does not exist has none; entries that go meanwhile are left out.
func walk(root string, describe func(string, fs.DirEntry) (string, bool)) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if line, ok := describe(path, d); ok {
			out = append(out, line)
		}
		return nil
	})
	return out, err
}
