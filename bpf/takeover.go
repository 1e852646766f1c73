// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"strings"
)

// Takeover says where packets may belong to connections that another proxy has
// begun and netfilter translates. They are left to it. The numbers are those of
// enum takeover in lib/types.h.
type Takeover uint32

const (
	// TakeoverUplinks is for connections from other hosts.
	TakeoverUplinks Takeover = 1 << iota
	// TakeoverPods is for connections between pods of this node. While it is
	// set, each packet between them costs a look into netfilter's table.
	TakeoverPods
	// TakeoverNew leaves all new connections from other hosts to the other
	// proxy, which is to serve from now on.
	TakeoverNew
)

// String names the places.
func (t Takeover) String() string {
	var names []string
	for i, name := range []string{"uplinks", "pods", "new connections"} {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "nowhere"
	}
	return strings.Join(names, ", ")
}

// SetTakeover says where connections of another proxy are looked for. Programs
// that were loaded before the kernel had connection tracking are replaced.
func (d *Datapath) SetTakeover(where Takeover) error {
	if where != 0 {
		if err := d.findConntrack(); err != nil {
			return fmt.Errorf("set takeover to %s: %w", where, err)
		}
	}
	return d.setTakeover(where)
}

func (d *Datapath) setTakeover(where Takeover) error {
	if err := d.maps.Settings.Put(uint32(0), uplinkSettings{Takeover: uint32(where)}); err != nil {
		return fmt.Errorf("set takeover to %s: %w", where, err)
	}
	return nil
}

// findConntrack loads the programs for traffic control again if these know of no
// connection tracking and the kernel has it by now.
func (d *Datapath) findConntrack() error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if d.tc.tracks {
		return nil
	}
	l := d.newLoader()
	var err error
	if l.has, err = probeFeatures(l.types, d.cfg.Without); err != nil || !l.has[FeatureCTLookup] {
		return err
	}
	return d.replaceTC(l)
}

// replaceTC loads the programs for traffic control once more, and puts them in place
// of those that are attached.
func (d *Datapath) replaceTC(l *loader) error {
	tc, err := l.loadTC()
	if err != nil {
		return err
	}
	d.tc = tc
	names, err := d.pins()
	for _, name := range names {
		for _, h := range d.tc.hooks() {
			if index, ok := pinIndex(h.name, name); ok {
				err = errors.Join(err, d.attachTC(h, index))
			}
		}
	}
	return err
}
