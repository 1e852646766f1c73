// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/roottest"
)

// programs is the real data path, in the namespace of a lab's node: programs
// are attached in the namespace of the thread.
type programs struct {
	*bpf.Datapath
	l *lab
}

func (p programs) AttachPod(ifindex int) error {
	var err error
	roottest.In(p.l.t, p.l.node, func() error {
		err = p.Datapath.AttachPod(ifindex)
		return nil
	})
	return err
}

// usePrograms gives the lab the real data path until the returned function
// runs.
func (l *lab) usePrograms(pins string) (closePrograms func()) {
	l.t.Helper()
	datapath, err := bpf.Open(bpf.Config{PinDir: pins, Log: l.cfg.Log})
	if err != nil {
		l.t.Fatal(err)
	}
	l.cfg.Datapath = programs{datapath, l}
	return func() {
		if err := datapath.Close(); err != nil {
			l.t.Errorf("close data path: %v", err)
		}
	}
}

// TestRootPrograms runs pods with the BPF programs instead of the fake.
func TestRootPrograms(t *testing.T) {
	l := newLab(t)
	mount := t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	l.cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	pins := filepath.Join(mount, "slipway")
	closePrograms := l.usePrograms(pins)
	l.start()
	a, b := l.addPod("a"), l.addPod("b")
	client, server := open(t, a.ns, b.ns, b.addrs[1])
	defer client.Close()
	defer server.Close()
	echo(t, client, server)
	l.stop()
	closePrograms()
	echo(t, client, server)

	defer l.usePrograms(pins)()
	l.start()
	echo(t, client, server)
	for i, addr := range b.addrs {
		ping(t, a.ns, addr)
		if seen := connect(t, a.ns, b.ns, addr); seen != a.addrs[i] {
			t.Errorf("pod saw %s, want the pod address %s", seen, a.addrs[i])
		}
		ping(t, l.node, addr)
		connect(t, l.node, b.ns, addr)
		if seen := connect(t, a.ns, l.outside, outsideAddrs[i]); seen != nodeAddrs[i] {
			t.Errorf("outside saw %s, want the node's %s", seen, nodeAddrs[i])
		}
	}
	if n := l.hostForwards(t, func() { connect(t, a.ns, b.ns, b.addrs[0]) }); n != 0 {
		t.Errorf("%d packets between pods came by the node's stack", n)
	}
	l.del(a)
	l.stop()
	// What is removed while no server runs goes with the next start.
	inPod(t, b.ns, netlink.LinkDel)
	l.start()
	endpoints, err := l.cfg.Datapath.Endpoints()
	if err != nil || len(endpoints) != 0 {
		t.Errorf("endpoints %+v, %v; want none", endpoints, err)
	}
	left, err := filepath.Glob(filepath.Join(pins, "links", "pod_*"))
	if err != nil || len(left) != 0 {
		t.Errorf("links %v are left, %v", left, err)
	}
	if _, err := l.call(l.request(socket.Del, b)); err != nil {
		t.Errorf("del: %v", err)
	}
}

// hostForwards returns how many packets the node's stack sent to pods while
// fn ran: with direct delivery, only what was not for a local pod.
func (l *lab) hostForwards(t *testing.T, fn func()) uint64 {
	t.Helper()
	sent := func() (n uint64) {
		roottest.In(t, l.node, func() error {
			links, err := netlink.LinkList()
			for _, link := range links {
				if link.Type() == "veth" && link.Attrs().Name != "uplink" {
					n += link.Attrs().Statistics.TxPackets
				}
			}
			return err
		})
		return n
	}
	before := sent()
	fn()
	return sent() - before
}
