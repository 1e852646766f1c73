// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/atomicfile"
)

// settingsFile records the machine-wide settings that nodes have changed. All
// nodes that share /run share it: those of other clusters, too.
const settingsFile = "/run/slipway-settings.json"

// shared is the content of the file.
type shared struct {
	// Boot is the boot in which the settings were changed.
	Boot string `json:"boot"`
	// Changes are given back when the last holder is gone.
	Changes changes `json:"changes"`
	// Holders are the files or directories of nodes that need the settings. A
	// node whose path does not exist any more needs nothing.
	Holders []string `json:"holders"`
}

// HoldSettings brings the machine-wide settings of the kernel to what nodes need,
// until ReleaseSettings has been called for each holder. A holder is a path that
// exists for as long as its node has data. Both may be called concurrently, by
// different processes, too.
func HoldSettings(holder string) error { return holdSettings(settingsFile, holder) }

// ReleaseSettings gives the settings back when nobody else holds them.
func ReleaseSettings(holder string) error { return releaseSettings(settingsFile, holder) }

func holdSettings(path, holder string) error {
	return withShared(path, func(s *shared, save func() error) error {
		if !slices.Contains(s.Holders, holder) {
			s.Holders = append(s.Holders, holder)
		}
		if err := s.Changes.set(machineWide, save); err != nil || len(s.Changes) == 0 {
			return err
		}
		return save()
	})
}

func releaseSettings(path, holder string) error {
	return withShared(path, func(s *shared, save func() error) error {
		s.Holders = slices.DeleteFunc(s.Holders, func(h string) bool { return h == holder })
		if len(s.Holders) > 0 {
			return save()
		}
		if err := s.Changes.revert(); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove record of kernel settings: %w", err)
		}
		return nil
	})
}

// withShared calls change with the content of the file at path, while nobody
// else has it. The lock is on the directory, so that the file can be removed.
func withShared(path string, change func(s *shared, save func() error) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("lock record of kernel settings: %w", err)
	}
	defer dir.Close()
	if err := flock(dir); err != nil {
		return fmt.Errorf("lock record of kernel settings: %w", err)
	}
	s, err := readShared(path)
	if err != nil {
		return err
	}
	return change(s, func() error {
		data, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		return atomicfile.Write(path, data, 0o600)
	})
}

func flock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func readShared(path string) (*shared, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	var s shared
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read record of kernel settings %s: %w", path, err)
	}
	if s.Boot != boot || s.Changes == nil {
		s = shared{Boot: boot, Changes: changes{}}
	}
	s.Holders = slices.DeleteFunc(s.Holders, func(h string) bool {
		_, err := os.Stat(h)
		return errors.Is(err, os.ErrNotExist)
	})
	return &s, nil
}
