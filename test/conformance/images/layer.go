// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layer collects files. Its first error stays.
type layer struct {
	tar *tar.Writer
	err error
}

// layer makes one from what fill adds.
func (b *builder) layer(fill func(*layer)) v1.Layer {
	if b.err != nil {
		return nil
	}
	var content bytes.Buffer
	l := &layer{tar: tar.NewWriter(&content)}
	fill(l)
	if b.err = l.err; b.err == nil {
		b.err = l.tar.Close()
	}
	if b.err != nil {
		return nil
	}
	return b.checked(tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithCompressedCaching))
}

// debian is the layer of Debian packages that most images start from.
func (b *builder) debian() v1.Layer {
	return b.checked(tarball.LayerFromFile(b.base, tarball.WithCompressedCaching))
}

func (b *builder) checked(l v1.Layer, err error) v1.Layer {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("make layer: %w", err)
	}
	return l
}

func (l *layer) add(header tar.Header, content []byte) {
	if l.err != nil {
		return
	}
	header.Name, header.Size = strings.TrimPrefix(header.Name, "/"), int64(len(content))
	if l.err = l.tar.WriteHeader(&header); l.err == nil {
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

// copy takes a file of this machine.
func (l *layer) copy(at, from string, mode int64) {
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

// applets is busybox with a link for each of its programs but the shell.
func (l *layer) applets(dir, busybox string) {
	l.copy(dir+"/busybox", busybox, 0o755)
	for applet := range strings.FieldsSeq(applets) {
		l.link(dir+"/"+applet, "busybox")
	}
}

// applets are those of Debian's busybox that tests may use.
const applets = `[ [[ arch awk base64 basename bunzip2 bzcat cal cat chgrp chmod chown chroot clear cmp
cp cpio cut date dc dd df dirname dnsdomainname du echo egrep env expand expr factor false fgrep find
fold free grep groups gunzip gzip head hexdump hostname httpd id ifconfig ip kill less link ln logname
ls md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nl nproc nslookup od paste patch pidof ping
printf ps pwd readlink realpath renice reset rev rm rmdir route sed seq sha1sum sha256sum sha512sum
sleep sort stat strings stty su sync sysctl tac tail tar taskset tee telnet test time timeout top touch
tr traceroute true truncate tty umount uname uniq unlink unxz unzip uptime usleep vi watch wc wget which
who whoami xargs xxd yes zcat`
