// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A fresh host has a clone of this repository and what the README names; it
// gets everything else as from the network: packages from a mirror, modules
// from a proxy. Go's build cache is handed in, too, as compiling it all in
// emulation takes hours.

// fresh prepares the shares of a fresh host, and the shell commands that tell
// it of them.
func (l *lab) fresh(release string) ([]share, string, error) {
	mirror, err := l.packageMirror(release)
	if err != nil {
		return nil, "", err
	}
	clone, err := filepath.Abs(".")
	if err != nil {
		return nil, "", err
	}
	bundle := filepath.Join(l.dir, "clone")
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return nil, "", err
	}
	git := command{name: "git", args: []string{"-c", "safe.directory=*", "bundle", "create", "-q", filepath.Join(bundle, "bundle"), "HEAD", "--tags"}}
	if err := git.run(); err != nil {
		return nil, "", err
	}
	out, err := command{name: "go", args: []string{"env", "GOROOT", "GOMODCACHE", "GOCACHE"}}.output()
	if err != nil {
		return nil, "", err
	}
	paths := strings.Fields(out)
	if len(paths) != 3 {
		return nil, "", fmt.Errorf("go env prints %q, expected three directories", out)
	}
	shares := []share{
		{tag: "mirror", path: mirror}, {tag: "clone", path: bundle}, {tag: "goroot", path: paths[0]},
		{tag: "gomod", path: filepath.Join(paths[1], "cache/download")}, {tag: "gocache", path: paths[2]},
	}
	// The paths are those of this machine: they are part of the keys in Go's
	// build cache.
	env := fmt.Sprintf("export GOROOT=%s GOMODCACHE=%s GOCACHE=%s CLONE=%s\n", paths[0], paths[1], paths[2], clone)
	return shares, env, nil
}

var (
	setupList = regexp.MustCompile(`(?s)\nrun(?:_files)?=\((.*?)\)`)
	setupPair = regexp.MustCompile(`\S+:(\S+)`)
)

// setupPackages are what deploy/setup installs for `make up`.
func setupPackages(script string) []string {
	var all []string
	for _, list := range setupList.FindAllStringSubmatch(script, -1) {
		for _, pair := range setupPair.FindAllStringSubmatch(list[1], -1) {
			all = append(all, pair[1])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// packageMirror makes a directory from which apt in a fresh host of a release
// installs what deploy/setup asks for.
func (l *lab) packageMirror(release string) (string, error) {
	from := archive{filepath.Join(l.dir, "apt-"+release), map[string]string{release: mirror}}
	if err := from.open(); err != nil {
		return "", err
	}
	script, err := os.ReadFile("deploy/setup")
	if err != nil {
		return "", err
	}
	if err := from.downloadAll(release, setupPackages(string(script))...); err != nil {
		return "", err
	}
	dir := filepath.Join(from.dir, "cache/archives")
	return dir, writeIndex(dir)
}

// writeIndex writes the index of the packages in a directory.
func writeIndex(dir string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	var index strings.Builder
	for _, deb := range debs {
		control, err := command{name: "dpkg-deb", args: []string{"-f", deb}}.output()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %x\n\n", strings.TrimSpace(control), filepath.Base(deb), len(data), sha256.Sum256(data))
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), []byte(index.String()), 0o644)
}
