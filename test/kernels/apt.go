// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	mirror   = "http://deb.debian.org/debian"
	security = "http://deb.debian.org/debian-security"
	keyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// Each set of suites has its own package lists, so that QEMU's libraries all
// come from one release.
var (
	toolSuites = map[string]string{
		"bookworm": mirror, "bookworm-backports": mirror, "bookworm-security": security,
	}
	kernelSuites = map[string]string{
		"trixie": mirror, "trixie-backports": mirror, "trixie-security": security,
		"bookworm-security": security, "bullseye-security": security,
	}
)

// listsAge is how old package lists may be.
const listsAge = 24 * time.Hour

// archive is a private configuration of apt: the machine's own sources, lists
// and installed packages play no part in it.
type archive struct {
	dir    string
	suites map[string]string
}

// open writes the configuration and fetches the package lists when they are
// missing or old.
func (a archive) open() error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	var sources strings.Builder
	for suite, uri := range a.suites {
		fmt.Fprintf(&sources, "deb [signed-by=%s] %s %s main\n", keyring, uri, suite)
	}
	conf := fmt.Sprintf(`Dir::State "%[1]s"; Dir::State::lists "%[1]s/lists"; Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache"; Dir::Etc::SourceList "%[1]s/sources.list"; Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null"; Dir::Etc::Preferences "/dev/null";
APT::Architecture "amd64"; APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root"; Acquire::Languages "none"; APT::Install-Recommends "false";
`, a.dir)
	for name, text := range map[string]string{"sources.list": sources.String(), "conf": conf, "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	stamp := filepath.Join(a.dir, "updated")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < listsAge {
		return nil
	}
	if err := a.command("apt-get", "update", "-qq").run(); err != nil {
		return err
	}
	return os.WriteFile(stamp, nil, 0o644)
}

func (a archive) command(name string, args ...string) command {
	return command{name: name, args: args, dir: filepath.Join(a.dir, "debs"), env: []string{"APT_CONFIG=" + filepath.Join(a.dir, "conf")}}
}

// newest returns the package with the highest version in its name among those
// whose name matches a regular expression.
func (a archive) newest(pattern string) (string, error) {
	out, err := a.command("apt-cache", "search", "--names-only", "^"+pattern+"$").output()
	if err != nil {
		return "", err
	}
	var names []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no package is called %s", pattern)
	}
	return slices.MaxFunc(names, compareVersions), nil
}

// compareVersions orders names by the numbers in them.
func compareVersions(a, b string) int {
	return slices.Compare(numbers(a), numbers(b))
}

func numbers(name string) []int {
	var all []int
	inside := false
	for _, r := range name {
		digit := r >= '0' && r <= '9'
		if digit && !inside {
			all = append(all, 0)
		}
		if digit {
			all[len(all)-1] = all[len(all)-1]*10 + int(r-'0')
		}
		inside = digit
	}
	return all
}

// parts returns a kernel's package and those it depends on that have the same
// version in their name: since 7.0 the modules are a package of their own.
func (a archive) parts(name string) ([]string, error) {
	out, err := a.command("apt-cache", "depends", "--important", name).output()
	if err != nil {
		return nil, err
	}
	all := []string{name}
	version := strings.TrimPrefix(name, "linux-image-")
	for line := range strings.Lines(out) {
		if _, dep, found := strings.Cut(strings.TrimSpace(line), "Depends: linux-"); found && strings.HasSuffix(dep, version) {
			all = append(all, "linux-"+dep)
		}
	}
	return all, nil
}

// unpack downloads packages and unpacks them into a directory, once.
func (a archive) unpack(dir string, packages ...string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	return replaced(dir, func(dir string) error {
		for _, name := range packages {
			deb, err := a.download(name)
			if err != nil {
				return err
			}
			if err := (command{name: "dpkg-deb", args: []string{"-x", deb, dir}}).run(); err != nil {
				return err
			}
		}
		return nil
	})
}

// unpackAll unpacks packages with all they depend on.
func (a archive) unpackAll(dir, release string, packages ...string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := a.downloadAll(release, packages...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "cache/archives/*.deb"))
	if err != nil {
		return err
	}
	return replaced(dir, func(dir string) error {
		for _, deb := range debs {
			if err := (command{name: "dpkg-deb", args: []string{"-x", deb, dir}}).run(); err != nil {
				return err
			}
		}
		return nil
	})
}

// downloadAll downloads packages with all they depend on into the cache.
func (a archive) downloadAll(release string, packages ...string) error {
	return a.command("apt-get", append([]string{"install", "-y", "-qq", "--download-only", "-t", release}, packages...)...).run()
}

// download returns the file of a package, which may name its architecture
// after a colon. apt downloads only what is not there.
func (a archive) download(name string) (string, error) {
	if err := a.command("apt-get", "download", "-qq", name).run(); err != nil {
		return "", err
	}
	name, arch, found := strings.Cut(name, ":")
	if !found {
		arch = "*"
	}
	files, err := filepath.Glob(filepath.Join(a.dir, "debs", name+"_*_"+arch+".deb"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("apt-get download %s left no file", name)
	}
	return slices.MaxFunc(files, compareVersions), nil
}
