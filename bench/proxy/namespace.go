// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace: a node, a pod or another host.
type namespace struct{ handle netns.NsHandle }

func newNamespace() (namespace, error) {
	var n namespace
	err := onThread(func() (err error) {
		n.handle, err = netns.New()
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make network namespace: %w", err)
	}
	return n, n.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}

// do runs fn inside the namespace. Goroutines that it starts run elsewhere.
func (n namespace) do(fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return err
		}
		return fn()
	})
}

// start starts a process inside the namespace.
func (n namespace) start(cmd *exec.Cmd) error { return n.do(cmd.Start) }

// listen returns a TCP listener inside the namespace.
func (n namespace) listen(address string) (net.Listener, error) {
	var listener net.Listener
	err := n.do(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// onThread runs fn on a thread that ends with it, and with it the namespace
// that it was moved to.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

// setting changes a setting of the network namespace of this thread.
func setting(name, value string) error {
	return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
}

// wire is a veth pair: its near end is in the node, and has the name; the far
// end is eth0.
type wire struct {
	Near            int
	NearMAC, FarMAC net.HardwareAddr
}

func connect(near, far namespace, name string) (wire, error) {
	var w wire
	err := near.do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(far.handle))}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		w.Near, w.NearMAC = link.Attrs().Index, link.Attrs().HardwareAddr
		return netlink.LinkSetUp(link)
	})
	if err != nil {
		return w, fmt.Errorf("add %s: %w", name, err)
	}
	err = far.do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		w.FarMAC = link.Attrs().HardwareAddr
		return netlink.LinkSetUp(link)
	})
	if err != nil {
		return w, fmt.Errorf("set far end of %s up: %w", name, err)
	}
	return w, nil
}

// file is a descriptor for another process.
func (n namespace) file() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(n.handle), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "namespace"), nil
}
