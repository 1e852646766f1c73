// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

// recipes are those of the images that conformance tests run. Upstream's are
// made of Alpine, ours of Debian: the programs that tests start in them are
// the same or do the same.
func (b *builder) recipes() []recipe {
	debian, agnhost := b.debian(), b.layer(b.agnhost)
	nginx := command("nginx", "-g", "daemon off;")
	nonroot := entrypoint("/agnhost", "pause")
	nonroot.User = "1234"
	pause := entrypoint("/pause")
	pause.User = "65535:65535"
	pet := entrypoint("/agnhost", "test-webserver")
	return []recipe{
		{imageutils.Agnhost, entrypoint("/agnhost", "pause"), []v1.Layer{debian, agnhost}},
		{imageutils.AgnhostPrev, entrypoint("/agnhost", "pause"), []v1.Layer{debian, agnhost}},
		{imageutils.NonRoot, nonroot, []v1.Layer{debian, agnhost}},
		{imageutils.Kitten, pet, []v1.Layer{debian, agnhost, b.layer(b.kitten)}},
		{imageutils.Nautilus, pet, []v1.Layer{debian, agnhost, b.layer(b.pages("nautilus"))}},
		{imageutils.BusyBox, command("sh"), []v1.Layer{b.layer(b.busybox)}},
		{imageutils.Nginx, nginx, []v1.Layer{debian}},
		// A digest of its own: tests go from one to the other.
		{imageutils.NginxNew, nginx, []v1.Layer{debian, b.layer(func(l *layer) { l.text("/etc/new", "\n") })}},
		{imageutils.GlibcDnsTesting, command("bash"), []v1.Layer{debian}},
		{imageutils.Nonewprivs, command("nnp"), []v1.Layer{debian, b.layer(func(l *layer) {
			l.copy("/usr/local/bin/nnp", b.program("nonewprivs"), 0o6755)
		})}},
		{imageutils.RegressionIssue74839, entrypoint("/regression-issue-74839"), []v1.Layer{debian, b.layer(func(l *layer) {
			l.copy("/regression-issue-74839", b.program("regression-issue-74839"), 0o755)
		})}},
		{imageutils.Etcd, command("etcd"), []v1.Layer{debian, b.layer(func(l *layer) {
			l.copy("/usr/local/bin/etcd", b.program("etcd"), 0o755)
		})}},
		{imageutils.APIServer, entrypoint("/sample-apiserver"), []v1.Layer{debian, b.layer(func(l *layer) {
			l.copy("/sample-apiserver", b.program("sample-apiserver"), 0o755)
		})}},
		{imageutils.Pause, pause, []v1.Layer{b.layer(func(l *layer) { l.copy("/pause", b.program("pause"), 0o755) })}},
	}
}

// environment has busybox last: Debian's own programs come before its applets.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/busybox"}

// entrypoint is the configuration of an image that starts the program always,
// and with the arguments unless others are given.
func entrypoint(program string, args ...string) v1.Config {
	return v1.Config{Entrypoint: []string{program}, Cmd: args, Env: environment}
}

// command is the configuration of an image that starts the command unless
// another is given.
func command(words ...string) v1.Config { return v1.Config{Cmd: words, Env: environment} }

func (b *builder) program(name string) string { return filepath.Join(b.programs, name) }

// agnhost is upstream's program of many parts, with what it and the tests
// expect beside it.
func (b *builder) agnhost(l *layer) {
	l.copy("/agnhost", b.program("agnhost"), 0o755)
	l.link("/agnhost-2", "agnhost")
	l.copy("/coredns", b.program("coredns"), 0o755)
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		l.copy("/"+name, filepath.Join(b.sources, "agnhost/porter", name), 0o644)
	}
	l.dir("/uploads", 0o755)
	l.applets("/usr/local/busybox", b.program("busybox"))
	l.users()
}

// pages are the files of a web server's image.
func (b *builder) pages(pet string) func(*layer) {
	return func(l *layer) {
		for _, name := range []string{pet + ".jpg", "data.json"} {
			l.copy("/"+name, filepath.Join(b.sources, pet, "html", name), 0o644)
		}
	}
}

// kitten is mounted as a volume by a test that looks for upstream's base in
// it, so this file says what upstream's says.
func (b *builder) kitten(l *layer) {
	b.pages("kitten")(l)
	l.text("/etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\n")
}

// busybox is Debian's, but for the shell: Debian's build of it drops variables
// whose names are no identifiers, upstream's and bash hand them on.
func (b *builder) busybox(l *layer) {
	for _, at := range []string{"/tmp", "/var/tmp"} {
		l.dir(at, 0o1777)
	}
	for _, at := range []string{"/root", "/home"} {
		l.dir(at, 0o755)
	}
	l.copy("/bin/bash", b.program("bash-static"), 0o755)
	l.link("/bin/sh", "bash")
	l.applets("/bin", b.program("busybox"))
	l.users()
}

// users are those that tests look for.
func (l *layer) users() {
	l.text("/etc/passwd", `root:x:0:0:root:/root:/bin/sh
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`)
	l.text("/etc/group", `root:x:0:
adm:x:4:
www-data:x:33:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
nogroup:x:65534:
`)
}
