// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// workPrefix is what the names of directories begin with in which snapshots
// are made.
const workPrefix = ".snapshot-"

// youngWork is the age below which a directory may be one that its maker has
// not locked yet.
const youngWork = time.Minute

// work is a directory in which one snapshot is made. The lock on it goes with
// the process, so that what a killed one has left is known.
type work struct {
	dir  string
	lock *os.File
}

// makeWork makes a directory below parent, and removes those of processes that
// were killed: they hold keys, and much space.
func makeWork(parent string) (*work, error) {
	if err := removeDead(parent); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, workPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	// Not every file system has locks; then nothing is ever removed for dead.
	_ = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return &work{dir: dir, lock: lock}, nil
}

func (w *work) remove() {
	os.RemoveAll(w.dir)
	w.lock.Close()
}

func removeDead(parent string) error {
	all, err := filepath.Glob(filepath.Join(parent, workPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range all {
		if !isDead(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what an earlier snapshot has left: %w", err)
		}
	}
	return nil
}

func isDead(dir string) bool {
	file, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || time.Since(info.ModTime()) < youngWork {
		return false
	}
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// syncAll brings to the disk all that is written on the file system of dir.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
