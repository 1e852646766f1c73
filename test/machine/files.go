// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// trees are the directories of a node, and those that kubelets, runtimes and
// CNI plugins use wherever they are told to keep their files.
var trees = []string{
	"/var/lib/slipway", "/run/slipway", "/etc/slipway",
	"/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd",
	"/run/containerd", "/run/runc", "/etc/cni", "/opt/cni", "/etc/containerd", "/etc/kubernetes", "/usr/libexec/kubernetes",
}

// shared are directories where everybody makes entries: only those of a node
// by their names are looked at.
var shared = []string{"/tmp", "/var/tmp", "/run", "/run/lock", "/var/lib", "/var/log", "/etc", "/opt", "/dev", "/dev/shm", "/root"}

// ourWords are in the names of files that a node makes.
var ourWords = []string{"slipway", "containerd", "ctd-", "kube", "runc", "csi", "cni", "etcd"}

// files lists the files of a node; content is not looked at.
func files() ([]string, error) {
	var out []string
	for _, tree := range trees {
		found, err := walk(tree, func(path string, _ fs.DirEntry) (string, bool) { return path, true })
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	for _, dir := range shared {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if ours(e.Name()) {
				out = append(out, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func ours(name string) bool {
	return slices.ContainsFunc(ourWords, func(word string) bool { return strings.Contains(strings.ToLower(name), word) })
}
