// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// setting is a kernel setting that a node needs.
type setting struct {
	key   string
	value string
	// atLeast leaves a larger number alone.
	atLeast bool
}

// met tells whether a value is good enough.
func (s setting) met(value string) bool {
	return value == s.value || (s.atLeast && number(value) >= number(s.value))
}

// forwarding has the host route packets between pods and the outside. Each
// network namespace has its own.
var forwarding = []setting{
	{"net/ipv4/ip_forward", "1", false},
	{"net/ipv6/conf/all/forwarding", "1", false},
}

// machineWide are the settings that all nodes of a machine have in common, also
// those in namespaces.
var machineWide = []setting{
	// The kubelet wants exactly these and would set them itself.
	{"vm/overcommit_memory", "1", false},
	{"vm/panic_on_oom", "0", false},
	{"kernel/panic", "10", false},
	{"kernel/panic_on_oops", "1", false},
	{"kernel/keys/root_maxkeys", "1000000", false},
	{"kernel/keys/root_maxbytes", "25000000", false},
	// One machine runs many programs that watch files.
	{"fs/inotify/max_user_instances", "8192", true},
	{"fs/inotify/max_user_watches", "524288", true},
}

// changes are the kernel settings that were changed, by key.
type changes map[string]change

type change struct {
	// Before is the value to give back.
	Before string `json:"before"`
	// Set is the value that was set. With any other somebody else has changed
	// the setting later, and it is not given back.
	Set string `json:"set"`
}

// set brings settings to the values that a node needs, after save has recorded
// the values from before. A setting that this kernel does not have is passed
// over.
func (c changes) set(settings []setting, save func() error) error {
	for _, s := range settings {
		now, err := readSysctl(s.key)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if s.met(now) {
			continue
		}
		before := now
		if known, ok := c[s.key]; ok && known.Set == now {
			before = known.Before
		}
		c[s.key] = change{Before: before, Set: s.value}
		if err := save(); err != nil {
			return err
		}
		if err := writeSysctl(s.key, s.value); err != nil {
			return err
		}
	}
	return nil
}

// revert gives back the values from before, where nobody else has changed them
// since.
func (c changes) revert() error {
	var errs []error
	for key, made := range c {
		now, err := readSysctl(key)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case now == made.Set:
			errs = append(errs, writeSysctl(key, made.Before))
		}
	}
	return errors.Join(errs...)
}

// acceptRA keeps interfaces that learn their IPv6 routes from router
// advertisements doing so although the host now forwards (accept_ra 2).
func acceptRA() []setting {
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return nil
	}
	var out []setting
	for _, file := range files {
		key := strings.TrimPrefix(file, "/proc/sys/")
		forwarding, _ := readSysctl(filepath.Dir(key) + "/forwarding")
		if value, err := readSysctl(key); err == nil && value == "1" && forwarding == "0" {
			out = append(out, setting{key, "2", false})
		}
	}
	return out
}

func readSysctl(key string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc/sys", key))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(data)), nil
}

func writeSysctl(key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
	}
	return nil
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
