// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		options []string
		flags   uintptr
		data    string
		err     error
	}{
		"none":             {},
		"flags":            {options: []string{"ro", "noatime"}, flags: unix.MS_RDONLY | unix.MS_NOATIME},
		"joined":           {options: []string{"nodev,nosuid", "rw"}, flags: unix.MS_NODEV | unix.MS_NOSUID},
		"later wins":       {options: []string{"noexec", "exec"}},
		"data":             {options: []string{"data=journal", "noatime", "commit=30"}, flags: unix.MS_NOATIME, data: "data=journal,commit=30"},
		"bind":             {options: []string{"bind"}, err: ErrOption},
		"remount":          {options: []string{"noatime,remount"}, err: ErrOption},
		"discard":          {options: []string{"discard"}, err: ErrOption},
		"zero byte":        {options: []string{"data=\x00"}, err: ErrOption},
		"more than a page": {options: []string{strings.Repeat("a", 5000)}, err: ErrOption},
	} {
		t.Run(name, func(t *testing.T) {
			flags, data, err := parse(test.options)
			if flags != test.flags || data != test.data || !errors.Is(err, test.err) {
				t.Errorf("got %#x %q %v, want %#x %q %v", flags, data, err, test.flags, test.data, test.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("ro,noatime")
	f.Add("data=ordered,,bind")
	f.Fuzz(func(t *testing.T, options string) {
		flags, data, err := parse([]string{options})
		if err != nil {
			return
		}
		if flags&(unix.MS_BIND|unix.MS_REMOUNT|unix.MS_MOVE|unix.MS_REC) != 0 || strings.ContainsRune(data, 0) {
			t.Fatalf("%q gave flags %#x, data %q", options, flags, data)
		}
	})
}
