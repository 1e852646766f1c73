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

// settings are the kernel settings of a node, with their reasons.
var settings = []setting{
	// Packets between pods and the outside are routed by the host.
	{"net/ipv4/ip_forward", "1", false},
	{"net/ipv6/conf/all/forwarding", "1", false},
	// The kubelet wants these and would set them itself.
	{"vm/overcommit_memory", "1", false},
	{"kernel/panic", "10", true},
	{"kernel/panic_on_oops", "1", false},
	{"kernel/keys/root_maxkeys", "1000000", true},
	{"kernel/keys/root_maxbytes", "25000000", true},
	// One machine runs many programs that watch files.
	{"fs/inotify/max_user_instances", "8192", true},
	{"fs/inotify/max_user_watches", "524288", true},
}

// SetSysctls brings the kernel to the settings a node needs, and records the
// values from before. A setting that this kernel does not have is passed
// over.
func (j *Journal) SetSysctls() error {
	all := append(acceptRA(), settings...)
	for _, s := range all {
		if err := j.setSysctl(s); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) setSysctl(s setting) error {
	now, err := readSysctl(s.key)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if now == s.value || (s.atLeast && number(now) >= number(s.value)) {
		return nil
	}
	if _, known := j.entries.Sysctls[s.key]; !known {
		j.entries.Sysctls[s.key] = now
		if err := j.save(); err != nil {
			return err
		}
	}
	return writeSysctl(s.key, s.value)
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
