// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"strings"
	"testing"
)

func valid() Config {
	c := Defaults()
	c.NodeName = "n1"
	c.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd00::2")}
	return c
}

func TestValidate(t *testing.T) {
	prefixes := func(text ...string) (out []netip.Prefix) {
		for _, s := range text {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"defaults":              {func(*Config) {}, ""},
		"relative path":         {func(c *Config) { c.DataDir = "data" }, `--data-dir "data": expected an absolute path`},
		"bad node name":         {func(c *Config) { c.NodeName = "No_1" }, `--node-name "No_1"`},
		"no address":            {func(c *Config) { c.NodeIPs = nil }, "--node-ip: 0 addresses given"},
		"two of one family":     {func(c *Config) { c.NodeIPs[1] = netip.MustParseAddr("192.0.2.3") }, "one address of each family"},
		"three pod ranges":      {func(c *Config) { c.PodCIDRs = prefixes("10.1.0.0/16", "10.2.0.0/16", "fd00::/48") }, "--pod-cidr: 3 ranges given"},
		"overlap":               {func(c *Config) { c.ServiceCIDRs = prefixes("10.244.8.0/24") }, "--pod-cidr 10.244.0.0/16 overlaps --service-cidr 10.244.8.0/24"},
		"node in the pod range": {func(c *Config) { c.PodCIDRs = prefixes("192.0.0.0/8") }, "contains the node's address 192.0.2.2"},
		"NodePorts nowhere":     {func(c *Config) { c.NodePortAddresses = []string{"192.0.2.2"} }, `--nodeport-addresses: "192.0.2.2": expected a range`},
		"port zero":             {func(c *Config) { c.APIPort = 0 }, "--api-port 0: expected a port"},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tt.change(&c)
			err := c.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, expected %q in it", err, tt.want)
			}
		})
	}
}

func TestDNSAddresses(t *testing.T) {
	got := valid().dnsAddresses()
	if len(got) != 2 || got[0].String() != "10.96.0.10" || got[1].String() != "fd00:10:96::a" {
		t.Errorf("got %v", got)
	}
}
