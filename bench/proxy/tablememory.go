// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"slipway.dev/slipway/bpf"
)

// tableMemory is what the kernel has for the BPF maps and programs that a process
// has open, megabytes.
func tableMemory(pid int) (float64, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	sum, seen := 0.0, map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // It was closed meanwhile.
		}
		if err != nil {
			return 0, err
		}
		fields := map[string]string{}
		for line := range bytes.Lines(data) {
			name, value, _ := bytes.Cut(line, []byte(":"))
			fields[string(name)] = string(bytes.TrimSpace(value))
		}
		id := "map " + fields["map_id"] + " program " + fields["prog_id"]
		if fields["memlock"] == "" || seen[id] {
			continue
		}
		seen[id] = true
		var size float64
		if _, err := fmt.Sscan(fields["memlock"], &size); err != nil {
			return 0, fmt.Errorf("%s: memlock: %w", file, err)
		}
		sum += size / 1e6
	}
	return sum, nil
}

// removeDatapath takes off what our side has pinned.
func removeDatapath() error { return bpf.Remove(pins) }
