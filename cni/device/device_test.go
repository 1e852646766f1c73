// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestListAsksAgain(t *testing.T) {
	asked := 0
	got, err := list(func() ([]int, error) {
		if asked++; asked < 3 {
			return nil, netlink.ErrDumpInterrupted
		}
		return []int{asked}, nil
	})
	if err != nil || len(got) != 1 || asked != 3 {
		t.Errorf("got %v, %v after %d questions", got, err, asked)
	}
	asked = 0
	_, err = list(func() ([]int, error) {
		asked++
		return nil, netlink.ErrDumpInterrupted
	})
	if !errors.Is(err, netlink.ErrDumpInterrupted) || asked != listTries {
		t.Errorf("error %v after %d questions", err, asked)
	}
}

func TestIsPodName(t *testing.T) {
	for name, want := range map[string]bool{
		"slw01234567": true, "slwabcdef00": true,
		"slipway0": false, "slw0123456": false, "slw012345678": false, "slw0123456g": false, "eth01234567": false, "": false,
	} {
		if got := isPodName(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
