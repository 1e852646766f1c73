// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// Kernel functions that may be missing are called only, in branches that a constant
// closes. A look whether their address is zero fails where they are a module's: the
// library marks that load as one of kernel data (cilium/ebpf 0.22.0).
func TestNoAddressOfKernelFunction(t *testing.T) {
	for object, load := range objects {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range spec.Programs {
			called := map[string]bool{}
			for _, ins := range p.Instructions {
				if ins.IsKfuncCall() {
					called[ins.Reference()] = true
				}
			}
			for i, ins := range p.Instructions {
				if ins.OpCode.IsDWordLoad() && called[ins.Reference()] {
					t.Errorf("%s: program %s, instruction %d: takes the address of %s", object, p.Name, i, ins.Reference())
				}
			}
		}
	}
}

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
