// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tcHook is a program for traffic control, with the name that its pins begin with.
type tcHook struct {
	name    string
	program *ebpf.Program
}

// isEgress tells by its name whether a program is for what leaves an interface.
func isEgress(hook string) bool { return hook == "pod_to" || hook == "uplink_out" }

func (o *tcObjects) podFrom() tcHook   { return tcHook{"pod_from", o.pod.PodFrom} }
func (o *tcObjects) podTo() tcHook     { return tcHook{"pod_to", o.pod.PodTo} }
func (o *tcObjects) uplinkIn() tcHook  { return tcHook{"uplink_in", o.uplink.UplinkIn} }
func (o *tcObjects) uplinkOut() tcHook { return tcHook{"uplink_out", o.uplink.UplinkOut} }

func (o *tcObjects) hooks() []tcHook {
	return []tcHook{o.podFrom(), o.podTo(), o.uplinkIn(), o.uplinkOut()}
}

// attachTC attaches a program to an interface, in place of the one that is there: by
// a tcx link, or by a filter where the kernel has none.
func (d *Datapath) attachTC(h tcHook, ifindex int) error {
	var err error
	if d.has[FeatureTCX] {
		err = d.attachTCX(h, ifindex)
	} else {
		err = d.attachFilter(h, ifindex)
	}
	if err != nil {
		return fmt.Errorf("attach %s to interface %d: %w", h.name, ifindex, err)
	}
	return nil
}

func (d *Datapath) attachTCX(h tcHook, ifindex int) error {
	typ := ebpf.AttachTCXIngress
	if isEgress(h.name) {
		typ = ebpf.AttachTCXEgress
	}
	name := pinName(h.name, ifindex)
	err := d.attach(hook{
		name: name, program: h.program,
		attach: func(p *ebpf.Program) (link.Link, error) {
			return link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p, Attach: typ})
		},
		// The link of an interface that is gone has index 0. Its number may
		// belong to another one by now.
		here: func(info *link.Info) bool { return info.TCX() != nil && info.TCX().Ifindex == uint32(ifindex) },
	})
	if err != nil {
		return err
	}
	return removeFilter(d.cfg.filterDir(), name)
}

// attachFilter replaces the filter of ours at once, as the kernel does, or adds one.
func (d *Datapath) attachFilter(h tcHook, ifindex int) error {
	name := pinName(h.name, ifindex)
	if err := d.addClsact(ifindex); err != nil {
		return err
	}
	// The mark comes first: what is marked and not there can be removed.
	if err := mark(d.cfg.filterDir(), name); err != nil {
		return err
	}
	if err := replaceFilter(h, ifindex); err != nil {
		return err
	}
	return d.detach(name)
}

// detachTC takes a program off an interface, which may be gone.
func (d *Datapath) detachTC(hook string, ifindex int) error {
	name := pinName(hook, ifindex)
	return errors.Join(d.detach(name), removeFilter(d.cfg.filterDir(), name))
}

func mark(dir, name string) error {
	if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("mark filter: %w", err)
	}
	return nil
}

func unmark(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove mark of filter: %w", err)
	}
	return nil
}
