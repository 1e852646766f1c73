// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// TestRootStopRemovesLink stops a node whose network namespace is still held
// open: its link must go at once, not when the kernel frees the namespace.
func TestRootStopRemovesLink(t *testing.T) {
	machine, inside := roottest.NetNS(t), roottest.NetNS(t)
	dir := t.TempDir()
	c := Config{Dir: dir + "/nodes", RunDir: dir + "/run", CIDRs: []netip.Prefix{netip.MustParsePrefix("172.29.0.0/24")}}
	n := Node{Name: "stopped", Number: First}
	roottest.In(t, machine, func() error {
		if err := MakeNetwork(c); err != nil {
			return err
		}
		if err := c.connect(n, inside); err != nil {
			return err
		}
		if err := Stop(c, n); err != nil {
			return err
		}
		_, err := netlink.LinkByName(linkName(n))
		var missing netlink.LinkNotFoundError
		if !errors.As(err, &missing) {
			return fmt.Errorf("look for %s: %v, expected that it is gone", linkName(n), err)
		}
		return Stop(c, n)
	})
}

// TestRootConnectReplacesLink connects a node twice, as when its first process
// was killed and the namespace of that lives on.
func TestRootConnectReplacesLink(t *testing.T) {
	machine, old, now := roottest.NetNS(t), roottest.NetNS(t), roottest.NetNS(t)
	dir := t.TempDir()
	c := Config{Dir: dir + "/nodes", RunDir: dir + "/run", CIDRs: []netip.Prefix{netip.MustParsePrefix("172.29.0.0/24")}}
	n := Node{Name: "again", Number: First}
	roottest.In(t, machine, func() error {
		return errors.Join(MakeNetwork(c), c.connect(n, old), c.connect(n, now))
	})
	for ns, expected := range map[netns.NsHandle]bool{old: false, now: true} {
		roottest.In(t, ns, func() error {
			_, err := netlink.LinkByName(uplinkName)
			if (err == nil) != expected {
				return fmt.Errorf("%s there: %v, expected %v", uplinkName, err, expected)
			}
			return nil
		})
	}
}

// TestRootCleanGivesSettingsBack starts a node on a machine with the kernel's
// defaults. The node finds the machine-wide settings that it needs, and the
// machine has its own again when the node is removed.
func TestRootCleanGivesSettingsBack(t *testing.T) {
	roottest.Require(t)
	const sysctl, fresh = "/proc/sys/fs/inotify/max_user_instances", "128"
	was := read(t, sysctl)
	write(t, sysctl, fresh)
	t.Cleanup(func() { write(t, sysctl, was) })
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntrap 'exit 0' TERM\nsleep 300 &\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Dir: dir + "/nodes", RunDir: dir + "/run", Executable: program, CIDRs: []netip.Prefix{netip.MustParsePrefix("172.29.0.0/24")},
	}
	n := Node{Name: "settings-test", Number: First}
	roottest.In(t, roottest.NetNS(t), func() error {
		if err := MakeNetwork(c); err != nil {
			return err
		}
		reports, err := Start(c, n, nil)
		if err == nil {
			err = reports.Close()
		}
		if now := read(t, sysctl); now == fresh {
			t.Errorf("%s is %s while a node runs", sysctl, now)
		}
		return errors.Join(err, Clean(c, true))
	})
	if now := read(t, sysctl); now != fresh {
		t.Errorf("%s is %s after the last node was removed, expected %s", sysctl, now, fresh)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
