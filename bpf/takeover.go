// SPDX-License-Identifier: Apache-2.0

package bpf

import (
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

// SetTakeover says where connections of another proxy are looked for.
func (d *Datapath) SetTakeover(where Takeover) error {
	if err := d.maps.Settings.Put(uint32(0), uplinkSettings{Takeover: uint32(where)}); err != nil {
		return fmt.Errorf("set takeover to %s: %w", where, err)
	}
	return nil
}
