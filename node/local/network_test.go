// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"net/netip"
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
