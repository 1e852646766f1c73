// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/cni"
)

func validConfig() cni.Config {
	return cni.Config{
		PodCIDRs: prefixes("10.244.1.0/24", "fd00:244:1::/64"), ClusterCIDRs: prefixes("10.244.0.0/16", "fd00:244::/32"),
		StateDir: "/var/lib/slipway/cni", ConfDir: "/run/slipway/cni/net.d",
		Datapath: newFakeDatapath(), Log: slog.New(slog.DiscardHandler),
	}
}

func TestConfigValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*cni.Config)
		want   string
	}{
		{"valid", func(*cni.Config) {}, ""},
		{"one family", func(c *cni.Config) { c.PodCIDRs = prefixes("fd00:244:1::/64") }, ""},
		{"cluster is the node", func(c *cni.Config) { c.ClusterCIDRs = nil }, ""},
		{"no data path", func(c *cni.Config) { c.Datapath = nil }, "data path"},
		{"no log", func(c *cni.Config) { c.Log = nil }, "log"},
		{"no pod cidr", func(c *cni.Config) { c.PodCIDRs = nil }, "no pod cidr"},
		{"two of a family", func(c *cni.Config) { c.PodCIDRs = prefixes("10.244.1.0/24", "10.244.2.0/24") }, "same family"},
		{"host bits", func(c *cni.Config) { c.ClusterCIDRs = prefixes("10.244.1.0/16") }, "not a network"},
		{"outside of the cluster", func(c *cni.Config) { c.PodCIDRs = prefixes("10.9.0.0/24") }, "not within"},
		{"tiny mtu", func(c *cni.Config) { c.MTU = 576 }, "mtu 576"},
		{"relative state", func(c *cni.Config) { c.StateDir = "state" }, "state directory"},
		{"no state", func(c *cni.Config) { c.StateDir = "" }, "state directory"},
		{"long socket", func(c *cni.Config) { c.Socket = "/" + strings.Repeat("s", 107) }, "too long"},
		{"device name", func(c *cni.Config) { c.GatewayDevice = "a-name-too-long-for-a-device" }, "not a device name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := validConfig()
			tt.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestNewAgain makes a server in place of one that failed.
func TestNewAgain(t *testing.T) {
	cfg := validConfig()
	cfg.Registry = prometheus.NewRegistry()
	for range 2 {
		if _, err := cni.New(cfg); err != nil {
			t.Fatal(err)
		}
	}
}
