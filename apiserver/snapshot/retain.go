// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	extension = ".tar.gz"
	// timeFormat sorts by time, and is a good file name.
	timeFormat = "20060102T150405Z"
	// Scheduled is what the names of snapshots begin with that are made, and
	// removed, by schedule.
	Scheduled = "scheduled-"
	// OnDemand is what the names of those begin with that somebody has asked
	// for.
	OnDemand = "on-demand-"
)

// Info is a snapshot in a directory.
type Info struct {
	Path string
	Size int64
	Manifest
	// Err is why the snapshot cannot be used.
	Err error
}

// Name returns the file name of a snapshot of this moment.
func Name(kind string, now time.Time) string {
	return kind + now.UTC().Format(timeFormat) + extension
}

// List returns the snapshots in a directory, the newest last.
func List(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var all []Info
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), extension) {
			continue
		}
		info := Info{Path: filepath.Join(dir, e.Name())}
		if stat, err := e.Info(); err == nil {
			info.Size, info.Time = stat.Size(), stat.ModTime()
		}
		if m, err := Read(info.Path); err == nil {
			info.Manifest = m
		} else {
			info.Err = err
		}
		all = append(all, info)
	}
	slices.SortStableFunc(all, func(a, b Info) int { return a.Time.Compare(b.Time) })
	return all, nil
}

// Retain removes the oldest scheduled snapshots until keep of them are left.
// One that cannot be read does not count as kept, and is not removed.
func Retain(dir string, keep int) error {
	all, err := List(dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(i Info) bool {
		return i.Err != nil || !strings.HasPrefix(filepath.Base(i.Path), Scheduled)
	})
	for len(all) > keep {
		if err := os.Remove(all[0].Path); err != nil {
			return fmt.Errorf("remove old snapshot: %w", err)
		}
		all = all[1:]
	}
	return nil
}
