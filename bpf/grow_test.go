// SPDX-License-Identifier: Apache-2.0

package bpf

import "testing"

// TestBounds has tables grow with the memory of the machine.
func TestBounds(t *testing.T) {
	const megabyte, gigabyte = 1 << 20, 1 << 30
	for _, tt := range []struct {
		memory                     uint64
		frontends, slots, backends uint32
	}{
		{1, 1, 1, 1},
		{256 * megabyte, 16384, 524288, 131072},
		{2 * gigabyte, 131072, 4194304, 1048576},
		{16 * gigabyte, 1048576, 16777216, 8388608},
		{1 << 50, most, most, most},
	} {
		for table, want := range map[Table]uint32{TableFrontends: tt.frontends, TableSlots: tt.slots, TableBackends: tt.backends} {
			if got := boundOf(table, tt.memory); got != want {
				t.Errorf("%d bytes: %s may grow to %d, expected %d", tt.memory, table, got, want)
			}
		}
	}
}
