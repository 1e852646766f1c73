// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// hook is a place that a program is attached to, with the name of its pin.
type hook struct {
	name    string
	program *ebpf.Program
	attach  func(*ebpf.Program) (link.Link, error)
	// here tells whether a pinned link still leads to this place.
	here func(*link.Info) bool
}

// AttachSock attaches the socket programs to a cgroup v2 directory; they act
// on all sockets of processes in it and below.
func (d *Datapath) AttachSock(cgroup string) error {
	for name, at := range map[string]struct {
		program *ebpf.Program
		typ     ebpf.AttachType
	}{
		"sock_connect4": {d.sock.SockConnect4, ebpf.AttachCGroupInet4Connect},
		"sock_connect6": {d.sock.SockConnect6, ebpf.AttachCGroupInet6Connect},
		"sock_sendmsg4": {d.sock.SockSendmsg4, ebpf.AttachCGroupUDP4Sendmsg},
		"sock_sendmsg6": {d.sock.SockSendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
		"sock_recvmsg4": {d.sock.SockRecvmsg4, ebpf.AttachCGroupUDP4Recvmsg},
		"sock_recvmsg6": {d.sock.SockRecvmsg6, ebpf.AttachCGroupUDP6Recvmsg},
		"sock_peer4":    {d.sock.SockPeer4, ebpf.AttachCgroupInet4GetPeername},
		"sock_peer6":    {d.sock.SockPeer6, ebpf.AttachCgroupInet6GetPeername},
		"sock_release":  {d.sock.SockRelease, ebpf.AttachCgroupInetSockRelease},
	} {
		err := d.attach(hook{
			name: name, program: at.program,
			attach: func(p *ebpf.Program) (link.Link, error) {
				return link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: at.typ, Program: p})
			},
			// A cgroup that is gone leaves a link with id 0.
			here: func(info *link.Info) bool { return info.Cgroup() != nil && info.Cgroup().CgroupId != 0 },
		})
		if err != nil {
			return fmt.Errorf("attach %s to cgroup %s: %w", name, cgroup, err)
		}
	}
	return nil
}

// AttachPod attaches the pod programs to a pod interface.
func (d *Datapath) AttachPod(ifindex int) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	return cmp.Or(d.attachTC(d.tc.podTo(), ifindex), d.attachTC(d.tc.podFrom(), ifindex))
}

// DetachPod takes the pod programs off an interface, which may be gone.
func (d *Datapath) DetachPod(ifindex int) error {
	return errors.Join(d.detachTC("pod_from", ifindex), d.detachTC("pod_to", ifindex))
}

// AttachUplink attaches the uplink programs to an interface. Of the node's
// addresses there, the first of each family is the source of connections that
// are passed on to backends of other nodes. Where the interface can, the XDP
// program is attached, too. It may be called again when the addresses change.
func (d *Datapath) AttachUplink(ifindex int, addrs []netip.Addr) error {
	first := ownAddrs(addrs)
	own := uplinkUplink{V4: first.V4, V6: first.V6}
	if err := d.maps.Uplinks.Put(uint32(ifindex), own); err != nil {
		return fmt.Errorf("set addresses of uplink %d: %w", ifindex, err)
	}
	if err := d.attachUplink(ifindex); err != nil {
		return err
	}
	if !d.attachWire(ifindex) {
		return nil
	}
	own.Flags |= uplinkXDP
	if err := d.maps.Uplinks.Put(uint32(ifindex), own); err != nil {
		return fmt.Errorf("set flags of uplink %d: %w", ifindex, err)
	}
	return nil
}

func (d *Datapath) attachUplink(ifindex int) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	return cmp.Or(d.attachTC(d.tc.uplinkIn(), ifindex), d.attachTC(d.tc.uplinkOut(), ifindex))
}

// DetachUplink takes the uplink programs off an interface, which may be gone.
func (d *Datapath) DetachUplink(ifindex int) error {
	err := d.maps.Uplinks.Delete(uint32(ifindex))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = nil
	}
	return errors.Join(err, d.detachWire(ifindex), d.detachTC("uplink_in", ifindex), d.detachTC("uplink_out", ifindex))
}

// Uplinks returns the interfaces that have uplink programs, gone ones too.
func (d *Datapath) Uplinks() ([]int, error) {
	names, err := d.pins()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if index, ok := pinIndex("uplink_in", name); ok {
			out = append(out, index)
		}
	}
	return out, nil
}

func pinName(hook string, ifindex int) string { return hook + "_" + strconv.Itoa(ifindex) }

// pinIndex is the interface of a pin of this hook.
func pinIndex(hook, name string) (int, bool) {
	text, ok := strings.CutPrefix(name, hook+"_")
	index, err := strconv.Atoi(text)
	return index, ok && err == nil
}

// attach puts the program into the pinned link of the hook, in place of the
// one that is there, or makes and pins a new link.
func (d *Datapath) attach(h hook) error {
	pin := filepath.Join(d.cfg.linkDir(), h.name)
	if adopted, err := adopt(pin, h); adopted || err != nil {
		return err
	}
	made, err := h.attach(h.program)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := made.Pin(pin); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}

func adopt(pin string, h hook) (bool, error) {
	have, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link: %w", err)
	}
	defer have.Close()
	info, err := have.Info()
	if err == nil && h.here(info) {
		if err := have.Update(h.program); err != nil {
			return false, fmt.Errorf("update pinned link: %w", err)
		}
		return true, nil
	}
	if err := have.Unpin(); err != nil {
		return false, fmt.Errorf("unpin stale link: %w", err)
	}
	return false, nil
}

// detach removes the pin; with the last reference the kernel takes the program
// off.
func (d *Datapath) detach(name string) error {
	if err := os.Remove(filepath.Join(d.cfg.linkDir(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("detach %s: %w", name, err)
	}
	return nil
}

// pins are the names of what is attached: pinned links, and marks of filters.
func (d *Datapath) pins() ([]string, error) {
	var names []string
	for _, dir := range []string{d.cfg.linkDir(), d.cfg.filterDir()} {
		entries, err := os.ReadDir(dir)
		// The data path of an older release has no filters.
		if err != nil && !(dir == d.cfg.filterDir() && errors.Is(err, os.ErrNotExist)) {
			return nil, fmt.Errorf("list pinned links: %w", err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove takes the whole data path off this machine: it detaches all links
// that are pinned under dir and unpins all maps. Nothing may use it meanwhile.
func Remove(dir string) error {
	var errs []error
	links := filepath.Join(dir, "links")
	entries, err := os.ReadDir(links)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		errs = append(errs, detachPinned(filepath.Join(links, e.Name())))
	}
	errs = append(errs, removeFilters(Config{PinDir: dir}.filterDir(), "*"), os.RemoveAll(dir))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove data path %s: %w", dir, err)
	}
	return nil
}

// detachPinned detaches now what would otherwise go with its last reference.
func detachPinned(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Detach(); err != nil && !errors.Is(err, link.ErrNotSupported) {
		return fmt.Errorf("detach %s: %w", filepath.Base(pin), err)
	}
	return nil
}
