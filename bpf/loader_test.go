// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// The file that is loaded first must make all maps that the others share, for those
// are loaded at once.
func TestFirstHasAllPinnedMaps(t *testing.T) {
	first, err := loadSock()
	if err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){
		"pod": loadPod, "uplink": loadUplink, "wire": loadWire, "count": loadCount,
	} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range spec.Maps {
			if m.Pinning == ebpf.PinByName && first.Maps[m.Name] == nil {
				t.Errorf("map %s of %s is pinned, but sock does not have it", m.Name, name)
			}
		}
	}
}
