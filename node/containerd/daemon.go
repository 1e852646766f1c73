// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/internal/process"
)

// stopTimeout is how long the daemon may take to stop before it is killed.
const stopTimeout = 10 * time.Second

// Daemon is a running containerd, started by us or adopted.
type Daemon struct {
	cfg  Config
	log  *slog.Logger
	proc process.Handle
	// Adopted tells that the daemon was already running.
	Adopted bool
}

// record is what a later process needs to adopt the daemon.
type record struct {
	process.Identity
	// Executable names the binary by device, inode and time, so that an
	// upgrade is noticed.
	Executable string `json:"executable"`
}

// Start adopts the daemon that runs with this configuration and binary, or
// starts a new one. It returns once the daemon answers, or when ctx ends.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Daemon, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.Root, cfg.State, cfg.CNIConfDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make directory for containerd: %w", err)
		}
	}
	want, err := cfg.render()
	if err != nil {
		return nil, err
	}
	d := &Daemon{cfg: cfg, log: log}
	if err := d.adoptOrStart(want); err != nil {
		return nil, err
	}
	if err := d.waitReady(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Daemon) adoptOrStart(want []byte) error {
	have, _ := os.ReadFile(d.cfg.configFile())
	rec, err := readRecord(d.cfg.recordFile())
	if err == nil && rec.Alive() {
		if bytes.Equal(have, want) && rec.Executable == executableID(d.cfg.Executable) {
			d.proc, err = process.Open(rec.Identity)
			d.Adopted = err == nil
			if err == nil {
				return nil
			}
		}
		d.log.Info("restart containerd: its binary or configuration has changed", "pid", rec.PID)
		if err := process.Stop(rec.Identity, stopTimeout); err != nil {
			return fmt.Errorf("stop previous containerd: %w", err)
		}
	}
	if err := atomicfile.Write(d.cfg.configFile(), want, 0o600); err != nil {
		return err
	}
	return d.start()
}

func (d *Daemon) start() error {
	out, err := os.OpenFile(d.cfg.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open containerd log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(d.cfg.Executable, "containerd", "--config", d.cfg.configFile(), "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+d.cfg.BinDir+":"+os.Getenv("PATH"))
	// A session of its own: the daemon outlives us and our terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nor does it keep what our own parent has left open.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("start containerd: close inherited files: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	// Reap it when it dies before we do.
	go cmd.Wait()
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start containerd: it ended at once, see %s: %w", d.cfg.LogFile, err)
	}
	if d.proc, err = process.Open(id); err != nil {
		return fmt.Errorf("start containerd: it ended at once, see %s: %w", d.cfg.LogFile, err)
	}
	data, err := json.Marshal(record{Identity: id, Executable: executableID(d.cfg.Executable)})
	if err != nil {
		return err
	}
	return atomicfile.Write(d.cfg.recordFile(), data, 0o600)
}

// waitReady waits until the daemon serves CRI.
func (d *Daemon) waitReady(ctx context.Context) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		last := d.ping(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-d.proc.Done():
			return fmt.Errorf("containerd ended while starting, see %s", d.cfg.LogFile)
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer, see %s: %w", d.cfg.LogFile, last)
		case <-tick.C:
		}
	}
}

func (d *Daemon) ping(ctx context.Context) error {
	if _, err := os.Stat(d.cfg.Socket()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client, err := containerd.New(d.cfg.Socket(), containerd.WithTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Version(ctx)
	return err
}

// Run starts the daemon again, with back-off, whenever it dies. It returns
// when ctx ends and leaves the daemon and all containers running.
func (d *Daemon) Run(ctx context.Context) error {
	const first, last = 200 * time.Millisecond, 30 * time.Second
	wait := first
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-d.proc.Done():
		}
		if time.Since(started) > last {
			wait = first
		}
		d.log.Warn("containerd died, starting it again", "after", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, last)
		if err := d.start(); err != nil {
			return err
		}
	}
}

// Stop ends the daemon that was started for this configuration, if it runs.
// Containers go on.
func Stop(cfg Config) error {
	rec, err := readRecord(cfg.recordFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find containerd: %w", err)
	}
	return process.Stop(rec.Identity, stopTimeout)
}

// Pid returns the process id of the daemon, 0 when none runs.
func Pid(cfg Config) int {
	rec, err := readRecord(cfg.recordFile())
	if err != nil || !rec.Alive() {
		return 0
	}
	return rec.PID
}

func (c Config) recordFile() string { return filepath.Join(c.State, "daemon.json") }

func readRecord(path string) (record, error) {
	var rec record
	data, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	return rec, json.Unmarshal(data, &rec)
}

// executableID names a binary by what changes when it is replaced.
func executableID(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec)
}
