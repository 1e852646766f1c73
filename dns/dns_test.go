// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testConfig(t *testing.T, resolv string) Config {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(resolv), 0o644); err != nil {
		t.Fatal(err)
	}
	return Config{
		Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00::1")},
		Domain:    "cluster.local", Kubeconfig: "/etc/kubeconfig", ResolvConf: path,
	}
}

func TestCorefile(t *testing.T) {
	cfg := testConfig(t, "nameserver 192.0.2.53\n")
	text, err := cfg.Corefile()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bind 10.244.0.1 fd00::1\n", "kubernetes cluster.local", "kubeconfig /etc/kubeconfig", "forward . " + cfg.ResolvConf} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestCorefileWithoutServers(t *testing.T) {
	cfg := testConfig(t, "search example.org\n")
	text, err := cfg.Corefile()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "forward") {
		t.Errorf("forwards although there is no server to forward to:\n%s", text)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"address":    func(c *Config) { c.Addresses = nil },
		"domain":     func(c *Config) { c.Domain = "" },
		"kubeconfig": func(c *Config) { c.Kubeconfig = "" },
	} {
		cfg := testConfig(t, "")
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s missing: got %v", name, err)
		}
	}
}
