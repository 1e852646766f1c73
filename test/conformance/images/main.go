// SPDX-License-Identifier: Apache-2.0

// Command images makes the container images that the upstream conformance
// tests use, without a registry: from programs that were built before, and
// from a root file system of Debian packages.
//
//	images -programs DIR -base debian.tar -out DIR
//
// Each image becomes one archive in the output directory, as `docker save`
// writes it, under the name that the tests ask for.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("images: ")
	var b builder
	flag.StringVar(&b.programs, "programs", "", "directory of the programs")
	flag.StringVar(&b.base, "base", "", "archive of a Debian root file system")
	flag.StringVar(&b.sources, "sources", "", "directory test/images of the Kubernetes module")
	flag.StringVar(&b.out, "out", "", "directory for the archives")
	flag.Parse()
	if err := b.buildAll(); err != nil {
		log.Fatal(err)
	}
}

// builder makes images.
type builder struct{ programs, base, sources, out string }

// recipe is how one image is made.
type recipe struct {
	image imageutils.ImageID
	// debian puts the Debian root file system below the files.
	debian bool
	files  func(*layer)
	config v1.Config
}

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/busybox"

func (b builder) recipes() []recipe {
	agnhost := func(l *layer) {
		l.program(b.programs+"/agnhost", "/agnhost")
		l.link("/agnhost-2", "agnhost")
		l.program(b.programs+"/coredns", "/coredns")
		for _, f := range []string{"localhost.crt", "localhost.key"} {
			l.file(filepath.Join(b.sources, "agnhost/porter", f), "/"+f, 0o644)
		}
		l.dir("/uploads", 0o755)
		l.busybox(b.programs+"/busybox", "/usr/local/busybox")
		l.text("/etc/passwd", passwd)
		l.text("/etc/group", group)
	}
	run := v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{path}}
	serve := func(data string) func(*layer) {
		return func(l *layer) {
			agnhost(l)
			for _, f := range []string{data + ".jpg", "data.json"} {
				l.file(filepath.Join(b.sources, data, "html", f), "/"+f, 0o644)
			}
		}
	}
	server := v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}, Env: []string{path}}
	nonroot := run
	nonroot.User = "1234"
	nginx := v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{path}}
	return []recipe{
		{imageutils.Agnhost, true, agnhost, run},
		{imageutils.AgnhostPrev, true, agnhost, run},
		{imageutils.NonRoot, true, agnhost, nonroot},
		{imageutils.Kitten, true, serve("kitten"), server},
		{imageutils.Nautilus, true, serve("nautilus"), server},
		{imageutils.BusyBox, false, func(l *layer) {
			l.busybox(b.programs+"/busybox", "/bin")
			// Debian's busybox shell forgets variables like "data-1".
			l.program(b.programs+"/bash", "/bin/sh")
			for _, dir := range []string{"/tmp", "/var/tmp"} {
				l.dir(dir, 0o1777)
			}
			for _, dir := range []string{"/root", "/home", "/usr", "/var", "/etc"} {
				l.dir(dir, 0o755)
			}
			l.text("/etc/passwd", passwd)
			l.text("/etc/group", group)
		}, v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}},
		{imageutils.Nginx, true, nil, nginx},
		{imageutils.NginxNew, true, func(l *layer) { l.text("/etc/slipway-conformance", "new\n") }, nginx},
		{imageutils.GlibcDnsTesting, true, func(l *layer) { l.program(b.programs+"/coredns", "/coredns") }, v1.Config{Cmd: []string{"bash"}, Env: []string{path}}},
		{imageutils.Nonewprivs, true, func(l *layer) {
			l.source(b.programs+"/nnp", "/usr/local/bin/nnp", 0o4755)
		}, v1.Config{Cmd: []string{"nnp"}, Env: []string{path}}},
		{imageutils.Etcd, true, func(l *layer) { l.program(b.programs+"/etcd", "/usr/local/bin/etcd") }, v1.Config{Env: []string{path}}},
		{imageutils.APIServer, true, func(l *layer) { l.program(b.programs+"/sample-apiserver", "/sample-apiserver") },
			v1.Config{Entrypoint: []string{"/sample-apiserver"}, Env: []string{path}}},
		{imageutils.Pause, false, func(l *layer) { l.program(b.programs+"/pause", "/pause") },
			v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}},
	}
}

// Users that tests look for in the image.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
	group  = "root:x:0:\nadm:x:4:\nwww-data:x:33:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\nnogroup:x:65534:\n"
)

func (b builder) buildAll() error {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	configs := imageutils.GetImageConfigs()
	base, err := tarball.LayerFromFile(b.base)
	if err != nil {
		return fmt.Errorf("read base: %w", err)
	}
	for _, r := range b.recipes() {
		config := configs[r.image]
		if err := b.build(r, config.GetE2EImage(), base); err != nil {
			return fmt.Errorf("image %s: %w", config.GetE2EImage(), err)
		}
	}
	return nil
}

func (b builder) build(r recipe, fullName string, base v1.Layer) error {
	img := empty.Image
	var layers []v1.Layer
	if r.debian {
		layers = append(layers, base)
	}
	if r.files != nil {
		own, err := newLayer(r.files)
		if err != nil {
			return err
		}
		layers = append(layers, own)
	}
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.Config, file.OS, file.Architecture = r.config, "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	tag, err := name.NewTag(fullName)
	if err != nil {
		return err
	}
	out := filepath.Join(b.out, strings.NewReplacer("/", "_", ":", "_").Replace(fullName)+".tar")
	fmt.Println(fullName)
	return tarball.WriteToFile(out, tag, img)
}

// layer collects files; the first error ends it.
type layer struct {
	tar *tar.Writer
	err error
}

func newLayer(fill func(*layer)) (v1.Layer, error) {
	var data bytes.Buffer
	l := &layer{tar: tar.NewWriter(&data)}
	fill(l)
	if l.err == nil {
		l.err = l.tar.Close()
	}
	if l.err != nil {
		return nil, l.err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
}

func (l *layer) add(h tar.Header, content []byte) {
	if l.err != nil {
		return
	}
	h.Name, h.Size = strings.TrimPrefix(h.Name, "/"), int64(len(content))
	if l.err = l.tar.WriteHeader(&h); l.err == nil {
		_, l.err = l.tar.Write(content)
	}
}

func (l *layer) dir(at string, mode int64) {
	l.add(tar.Header{Name: at + "/", Mode: mode, Typeflag: tar.TypeDir}, nil)
}
func (l *layer) text(at, content string) {
	l.add(tar.Header{Name: at, Mode: 0o644, Typeflag: tar.TypeReg}, []byte(content))
}
func (l *layer) link(at, to string) {
	l.add(tar.Header{Name: at, Linkname: to, Mode: 0o777, Typeflag: tar.TypeSymlink}, nil)
}
func (l *layer) program(from, at string) { l.source(from, at, 0o755) }

func (l *layer) file(from, at string, mode int64) { l.source(from, at, mode) }

func (l *layer) source(from, at string, mode int64) {
	if l.err != nil {
		return
	}
	content, err := os.ReadFile(from)
	if err != nil {
		l.err = err
		return
	}
	l.add(tar.Header{Name: at, Mode: mode, Typeflag: tar.TypeReg}, content)
}

// busybox is Debian's static busybox with a link for each of its applets.
func (l *layer) busybox(from, dir string) {
	l.program(from, dir+"/busybox")
	for applet := range strings.FieldsSeq(applets) {
		l.link(dir+"/"+applet, "busybox")
	}
}

// applets are those of Debian's busybox that tests may use.
const applets = `[ [[ arch ash awk base64 basename bunzip2 bzcat cal cat chgrp chmod chown chroot
cksum clear cmp cp cpio cut date dc dd df diff dirname dnsdomainname du echo egrep env expand expr
factor false fgrep find fold free fsync getopt grep groups gunzip gzip head hexdump hostname httpd id
ifconfig ip kill killall less link ln logname ls lsof md5sum mkdir mkfifo mknod mktemp more mount mv nc
netstat nice nl nohup nproc nslookup od paste patch pgrep pidof ping ping6 pkill printf ps pwd readlink
realpath renice reset rev rm rmdir route sed seq sha1sum sha256sum sha512sum shred shuf sleep sort
split stat strings stty su sync sysctl tac tail tar taskset tee telnet test time timeout top touch tr
traceroute true truncate tty umount uname uniq unlink unxz unzip uptime usleep vi watch wc wget which
who whoami xargs xxd yes zcat`
