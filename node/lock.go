// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/internal/version"
)

// RunningError tells that another process runs a node on the same data.
type RunningError struct {
	DataDir string
	process.Identity
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("slipway already runs on %s (process %d); see `slipway status`, stop it with `slipway down`", e.DataDir, e.PID)
}

// lockData takes the data directory for this process. The lock goes with the
// process, however it ends.
func lockData(cfg Config) (io.Closer, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	file, err := os.OpenFile(cfg.lockFile(), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data directory: %w", err)
	}
	if err := flock(file, cfg.DataDir); err != nil {
		file.Close()
		return nil, err
	}
	self, err := process.Identify(os.Getpid())
	if err != nil {
		file.Close()
		return nil, err
	}
	data, err := json.Marshal(self)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(data, 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("write lock of data directory: %w", err)
	}
	return file, nil
}

// flock takes the lock. Whoever only looks, as Holder does, has it for no time.
func flock(file *os.File, dataDir string) error {
	const tries, pause = 20, 10 * time.Millisecond
	for i := 0; ; i++ {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock data directory %s: %w", dataDir, err)
		}
		if i == tries {
			id := readHolder(io.NewSectionReader(file, 0, 1<<10))
			return &RunningError{DataDir: dataDir, Identity: id}
		}
		time.Sleep(pause)
	}
}

func readHolder(file io.Reader) process.Identity {
	var id process.Identity
	// An unreadable holder is still a holder; its pid is then 0.
	_ = json.NewDecoder(file).Decode(&id)
	return id
}

// dyingTimeout is how long a process that was killed may take to give its lock
// back: the kernel frees its memory first.
const dyingTimeout = 5 * time.Second

// Holder returns the process that runs a node on this data directory, and
// whether there is one. It waits for one that is just dying.
func Holder(cfg Config) (process.Identity, bool) {
	for deadline := time.Now().Add(dyingTimeout); ; time.Sleep(10 * time.Millisecond) {
		id, held := holder(cfg)
		if !held || id.PID == 0 || id.Alive() || time.Now().After(deadline) {
			return id, held
		}
	}
}

func holder(cfg Config) (process.Identity, bool) {
	file, err := os.Open(cfg.lockFile())
	if err != nil {
		return process.Identity{}, false
	}
	defer file.Close()
	if unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return process.Identity{}, false
	}
	return readHolder(file), true
}

// stamp is the content of the version file.
type stamp struct {
	Data       int    `json:"data"`
	Slipway    string `json:"slipway"`
	Kubernetes string `json:"kubernetes"`
}

// checkDataVersion refuses a data directory that another layout of it was
// written to.
func checkDataVersion(cfg Config) error {
	data, err := os.ReadFile(cfg.versionFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read version of data directory: %w", err)
	}
	var have stamp
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("read version of data directory %s: %w; restore the file, or start over with `slipway down --purge`", cfg.versionFile(), err)
	}
	if have.Data != dataVersion {
		return fmt.Errorf("data directory %s has layout %d, written by slipway %s; this is slipway %s with layout %d: use the other release, or start over with `slipway down --purge`",
			cfg.DataDir, have.Data, have.Slipway, version.Version, dataVersion)
	}
	return nil
}

// stampData writes which release has the data directory now.
func stampData(cfg Config) error {
	now, err := json.Marshal(stamp{Data: dataVersion, Slipway: version.Version, Kubernetes: version.Kubernetes})
	if err != nil {
		return err
	}
	return atomicfile.Write(cfg.versionFile(), now, 0o644)
}
