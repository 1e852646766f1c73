// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// part is something that is tried on kernels.
type part struct {
	// name chooses it, says describes the host for docs/kernels.md.
	name, says string
	kernels    []string
	guest      guest
	// prepare are shell commands that make the host what it is.
	prepare string
	// verbs are for test/kernels/inside.
	verbs string
	// upgrade is a kernel that is booted next with the same disk.
	upgrade, upgradeVerbs string
}

var usual = guest{machine: machine{cpus: 2, memory: 2560}, timeout: 10 * time.Minute}

// with changes the usual guest.
func with(change func(*guest)) guest {
	g := usual
	change(&g)
	return g
}

func whole(g *guest) { g.timeout = 30 * time.Minute }

func freshHost(g *guest, release string) {
	g.timeout, g.memory, g.systemd, g.fresh = time.Hour, 6144, true, release
}

var (
	works = []string{"6.1", "6.12", "6.18", "newest", "arm64-6.1", "arm64-6.12"}
	// one is where a host is tried that does not need every kernel.
	one = []string{"6.12"}
)

// parts is all that is tried. Debian sets kernel.unprivileged_bpf_disabled=2,
// so that every host is one without unprivileged BPF.
func parts() []part {
	return []part{
		{name: "load", says: "every program is loaded and attached", kernels: works, guest: usual, verbs: "load"},
		{name: "tests", says: "the root tests of bpf", kernels: works, guest: with(whole), verbs: "tests"},
		{name: "refused", says: "a kernel that is too old: it is refused, and nothing is left behind", kernels: []string{"5.10"}, guest: usual, verbs: "refused"},
		{name: "cluster", says: "a whole cluster", kernels: []string{"6.1", "6.12"}, guest: with(whole), verbs: "cluster"},
		{name: "systemd", says: "a whole cluster under systemd, cgroup v2 alone with few controllers enabled", kernels: one,
			guest: with(func(g *guest) { whole(g); g.systemd = true }), verbs: "cluster"},
		{name: "docker", says: "a whole cluster beside Docker's firewall rules", kernels: []string{"6.1"}, guest: with(whole),
			prepare: ". /lab/payload/guest/docker.sh", verbs: "cluster"},
		{name: "reboot", says: "a cluster after a reboot into a newer kernel", kernels: []string{"6.1"}, guest: with(whole),
			verbs: "before-reboot", upgrade: "6.12", upgradeVerbs: "after-reboot"},
		{name: "cpus-64", says: "64 processors", kernels: one, verbs: "load",
			guest: with(func(g *guest) { whole(g); g.cpus, g.memory = 64, 6144 })},
		{name: "cpus-256", says: "256 possible processors, 2 there", kernels: one, verbs: "load",
			guest: with(func(g *guest) { g.possible = 256 })},
		{name: "cpus-1", says: "one processor", kernels: []string{"6.1"}, verbs: "load",
			guest: with(func(g *guest) { g.cpus = 1 })},
		{name: "modules-disabled", says: "no more modules can be loaded (kernel.modules_disabled=1)", kernels: one, guest: usual,
			prepare: "sysctl -w kernel.modules_disabled=1", verbs: "load"},
		{name: "conntrack-blocked", says: "nf_conntrack is blocked by the administrator", kernels: one, guest: usual,
			prepare: "echo install nf_conntrack /bin/false >/etc/modprobe.d/lab.conf", verbs: "load"},
		{name: "lockdown-integrity", says: "lockdown=integrity", kernels: one, verbs: "load",
			guest: with(func(g *guest) { g.append = "lockdown=integrity" })},
		{name: "lockdown-confidentiality", says: "lockdown=confidentiality", kernels: one, verbs: "load",
			guest: with(func(g *guest) { g.append = "lockdown=confidentiality" })},
		{name: "no-btf", says: "no BTF: it is refused", kernels: one, guest: usual,
			prepare: "mount --bind /dev/null /sys/kernel/btf/vmlinux", verbs: "refused"},
		{name: "bpffs-elsewhere", says: "a BPF file system is mounted elsewhere, none at /sys/fs/bpf", kernels: one, guest: with(whole),
			prepare: "umount /sys/fs/bpf; mkdir -p /run/other; mount -t bpf bpf /run/other", verbs: "start"},
		{name: "cgroup-hybrid", says: "cgroup v1 with v2 at /sys/fs/cgroup/unified", kernels: []string{"6.1"}, verbs: "start",
			guest: with(func(g *guest) { whole(g); g.cgroup = "hybrid" })},
		{name: "cgroup-v1", says: "cgroup v1 alone: it is refused", kernels: []string{"6.1"}, verbs: "refused",
			guest: with(func(g *guest) { g.cgroup = "v1" })},
		{name: "fresh-12", says: "`make up` and `make demo` from a fresh clone on Debian 12", kernels: []string{"6.1"},
			guest: with(func(g *guest) { freshHost(g, "bookworm") }), prepare: ". /lab/payload/guest/fresh.sh", verbs: "fresh"},
		{name: "fresh-13", says: "`make up` and `make demo` from a fresh clone on Debian 13", kernels: []string{"6.12"},
			guest: with(func(g *guest) { freshHost(g, "trixie") }), prepare: ". /lab/payload/guest/fresh.sh", verbs: "fresh"},
		{name: "short", says: "what a change must pass", kernels: one, guest: usual, verbs: "load start"},
	}
}

// shortPart repeats what others do; it runs when it is asked for.
const shortPart = "short"

// chooseParts returns the parts with the given names, all when there is none.
func chooseParts(names []string) ([]part, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(parts(), func(p part) bool { return p.name == shortPart }), nil
	}
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(parts(), func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("part %q: expected one of %s", name, strings.Join(partNames(), ", "))
		}
		chosen = append(chosen, parts()[i])
	}
	return chosen, nil
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// script is what the guest runs.
func (p part) script(verbs string) string {
	return strings.TrimPrefix(p.prepare+"\n", "\n") + "inside " + verbs + "\n"
}
