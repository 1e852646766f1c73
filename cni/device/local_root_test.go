// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// rounds is how often a test looks for what the kernel does late only now and
// then.
const rounds = 30

var (
	podAddrs     = []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:244:1::7")}
	gatewayAddrs = []netip.Addr{netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("fd00:244:1::1")}
)

func openNode(t *testing.T) (*Host, netns.NsHandle) {
	t.Helper()
	ns := roottest.NetNS(t)
	host, err := OpenHost(path(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return host, ns
}

func path(ns netns.NsHandle) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns)) }

func wantLocal(t *testing.T, ns netns.NsHandle, addrs []netip.Addr) {
	t.Helper()
	for _, addr := range addrs {
		if err := roottest.Local(ns, addr); err != nil {
			t.Error(err)
		}
	}
}

// TestRootConfigureWaitsForAddresses sees that a pod takes packets to its
// addresses from the moment that it is configured.
func TestRootConfigureWaitsForAddresses(t *testing.T) {
	roottest.Require(t)
	host, _ := openNode(t)
	for range rounds {
		inside := roottest.NetNS(t)
		ns, err := host.OpenPod(path(inside))
		if err != nil {
			t.Fatal(err)
		}
		pod := Pod{
			HostName: Prefix + "01234567", PodName: "eth0", MTU: 1500, Addrs: podAddrs, Gateways: gatewayAddrs,
			HostMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, PodMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		}
		if _, err := host.Create(ns, pod); err != nil {
			t.Fatal(err)
		}
		if err := ns.Configure(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		wantLocal(t, inside, podAddrs)
		ns.Close()
		if err := host.Delete(pod.HostName); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootSetGatewayWaitsForAddresses sees that the node takes packets to its
// gateway addresses from the moment that they are set.
func TestRootSetGatewayWaitsForAddresses(t *testing.T) {
	roottest.Require(t)
	for range rounds {
		host, ns := openNode(t)
		if err := host.SetGateway(t.Context(), Gateway{Name: "slipway0", Addrs: gatewayAddrs}); err != nil {
			t.Fatal(err)
		}
		wantLocal(t, ns, gatewayAddrs)
	}
}

func TestRootWaitLocalEnds(t *testing.T) {
	host, _ := openNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := waitLocal(ctx, host.handle, podAddrs[1:])
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "fd00:244:1::7") {
		t.Errorf("error %v, expected one that names the address", err)
	}
}
