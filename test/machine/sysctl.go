// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// settings are the kernel settings that nodes, kubelets and CNI plugins are
// known to change, as patterns below /proc/sys.
var settings = []string{
	"net/ipv4/ip_forward",
	"net/ipv4/conf/*/*",
	"net/ipv6/conf/*/*",
	"net/bridge/*",
	"net/core/bpf_jit_*",
	"vm/overcommit_memory",
	"vm/panic_on_oom",
	"kernel/panic",
	"kernel/panic_on_oops",
	"kernel/unprivileged_bpf_disabled",
	"kernel/keys/root_max*",
	"fs/inotify/max_*",
	"fs/may_detach_mounts",
}

// sysctls lists settings with their values. One that may not be read, such
// as a secret, is left out.
func sysctls() ([]string, error) {
	var out []string
	for _, pattern := range settings {
		found, err := filepath.Glob(filepath.Join("/proc/sys", pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			value, err := os.ReadFile(path)
			if err != nil {
				if info, statErr := os.Stat(path); statErr == nil && info.IsDir() || unreadable(err) {
					continue
				}
				return nil, err
			}
			out = append(out, strings.TrimPrefix(path, "/proc/sys/")+" = "+strings.TrimSpace(string(value)))
		}
	}
	return out, nil
}

// unreadable tells errors of a setting that has no value now.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "input/output error")
}
