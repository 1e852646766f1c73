// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// shared are the kernel settings that kubelets change and that no namespace
// keeps apart.
var shared = []string{
	"kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	"vm/overcommit_memory", "vm/panic_on_oom", "fs/inotify/max_user_instances", "fs/inotify/max_user_watches",
}

// settings are kernel settings and their values.
type settings map[string]string

func readSettings() settings {
	values := settings{}
	for _, key := range shared {
		if value, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil {
			values[key] = string(value)
		}
	}
	return values
}

// restore puts back what differs.
func (s settings) restore() error {
	var errs []error
	for key, value := range s {
		path := filepath.Join("/proc/sys", key)
		now, err := os.ReadFile(path)
		if err != nil || string(now) == value {
			continue
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("put back %s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}
