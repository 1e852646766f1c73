// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"
)

func TestModuleState(t *testing.T) {
	const lists = "lib/modules/6.1.0-test/"
	base := map[string]string{
		"proc/filesystems":                 "nodev\tsysfs\n\text4\nnodev\toverlay\n",
		"proc/sys/kernel/modules_disabled": "0\n",
		lists + "modules.builtin":          "kernel/drivers/net/loopback.ko\nkernel/net/ipv4/nf-thing.ko\n",
		lists + "modules.dep":              "kernel/drivers/net/veth.ko.xz:\nkernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\n",
		"sys/module/br_netfilter/x":        "",
	}
	for name, c := range map[string]struct {
		module string
		more   map[string]string
		want   ModuleState
		why    string
	}{
		"loaded":                  {"br_netfilter", nil, ModuleLoaded, ""},
		"a file system":           {"ext4", nil, ModuleBuiltIn, ""},
		"built in":                {"nf_thing", nil, ModuleBuiltIn, ""},
		"can be loaded":           {"veth", nil, ModuleLoadable, ""},
		"only needed by another":  {"libcrc32c", nil, ModuleAbsent, ""},
		"absent":                  {"nf_tables", nil, ModuleAbsent, ""},
		"loading is turned off":   {"veth", map[string]string{"proc/sys/kernel/modules_disabled": "1\n"}, ModuleBlocked, "modules_disabled"},
		"blacklisted":             {"xfs", map[string]string{"etc/modprobe.d/hardening.conf": "# xfs\nblacklist xfs\n"}, ModuleBlocked, "hardening.conf"},
		"blocked by install":      {"xfs", map[string]string{"etc/modprobe.d/cis.conf": "install xfs /bin/false\n"}, ModuleBlocked, "cis.conf"},
		"another is blacklisted":  {"xfs", map[string]string{"etc/modprobe.d/cis.conf": "blacklist hfs\n"}, ModuleLoadable, ""},
		"loaded though forbidden": {"br_netfilter", map[string]string{"etc/modprobe.d/x.conf": "blacklist br_netfilter\n"}, ModuleLoaded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			for _, from := range []map[string]string{base, c.more} {
				for path, text := range from {
					files[path] = text
				}
			}
			state, why := Modules{root: fakeRoot(t, files), release: "6.1.0-test"}.State(c.module)
			if state != c.want || !strings.Contains(why, c.why) {
				t.Errorf("%q because of %q, want %q and %q", state, why, c.want, c.why)
			}
		})
	}
	if state, _ := (Modules{root: t.TempDir(), release: "6.1.0-test"}).State("veth"); state != ModuleUnknown {
		t.Errorf("without lists of modules: %q", state)
	}
}
