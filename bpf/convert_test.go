// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestAddrRoundTrip(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "255.255.255.255", "fd00::1", "2001:db8:1:2:3:4:5:6"} {
		addr := netip.MustParseAddr(text)
		if got := fromAddr(toAddr(addr)); got != addr {
			t.Errorf("%s comes back as %s", addr, got)
		}
	}
	if fromAddr(toAddr(netip.Addr{})).IsValid() {
		t.Error("no address comes back as one")
	}
	if toAddr(netip.MustParseAddr("::ffff:10.0.0.1")) != toAddr(netip.MustParseAddr("10.0.0.1")) {
		t.Error("a v4-mapped address is not the IPv4 address")
	}
}

func FuzzFrontendRoundTrip(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, uint16(80), uint8(6), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, port uint16, protocol, scope uint8) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || addr.IsUnspecified() {
			return
		}
		want := Frontend{Addr: addr.Unmap(), Port: port, Protocol: Protocol(protocol), Scope: Scope(scope)}
		if got := frontendOf(want.key()); got != want && want.Addr != netip.IPv6Unspecified() {
			t.Errorf("%v comes back as %v", want, got)
		}
	})
}

// TestDropReasons compares the names with the enum in C.
func TestDropReasons(t *testing.T) {
	source, err := os.ReadFile("lib/types.h")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`DROP_([A-Z_]+) = (\d+)`).FindAllStringSubmatch(string(source), -1)
	if len(found) != len(dropReasons)+1 {
		t.Fatalf("C has %d reasons and a maximum, Go %d", len(found)-1, len(dropReasons))
	}
	for i, m := range found {
		if m[2] != strconv.Itoa(i) {
			t.Errorf("DROP_%s is %s, expected %d", m[1], m[2], i)
		}
	}
	if got := DropReason(99).String(); got != "reason_99" {
		t.Errorf("an unknown reason is %q", got)
	}
}
