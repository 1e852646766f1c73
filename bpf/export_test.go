// SPDX-License-Identifier: Apache-2.0

package bpf

import "github.com/cilium/ebpf"

// UplinkIn is the program for packets that come in, to be run on packets that a
// test has made.
func (d *Datapath) UplinkIn() *ebpf.Program { return d.uplink.UplinkIn }
