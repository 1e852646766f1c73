// SPDX-License-Identifier: Apache-2.0

package bpf

import "github.com/cilium/ebpf"

// UplinkIn is the program for packets that come in, to be run on packets that a
// test has made.
func (d *Datapath) UplinkIn() *ebpf.Program { return d.uplink.UplinkIn }

// PodFrom is the program for packets of pods.
func (d *Datapath) PodFrom() *ebpf.Program { return d.pod.PodFrom }

// PodTo is the program for packets to pods.
func (d *Datapath) PodTo() *ebpf.Program { return d.pod.PodTo }

// Forget empties the tables that programs write.
func (d *Datapath) Forget() error {
	for _, m := range []*ebpf.Map{d.maps.Conntrack, d.maps.Affinities, d.maps.Fragments} {
		key := make([]byte, m.KeySize())
		for m.NextKey(nil, &key) == nil {
			if err := m.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}
