// SPDX-License-Identifier: Apache-2.0

package agent

import "testing"

func TestUplinkModes(t *testing.T) {
	for want, uplinks := range map[string]map[int]bool{
		"": nil,
		" (interface 999998 XDP and tcx, interface 999999 tcx)": {999999: false, 999998: true},
		" (lo tcx)": {1: false},
	} {
		if got := uplinkModes(uplinks); got != want {
			t.Errorf("%v: got %q, expected %q", uplinks, got, want)
		}
	}
}
