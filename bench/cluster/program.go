// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// restartPause is how long systemd waits by default before it starts a
	// program again.
	restartPause = 100 * time.Millisecond
	// stopTimeout is how long a program may take to stop before it is killed.
	stopTimeout = 30 * time.Second
)

// program is kept running as systemd would do with Restart=always.
type program struct {
	name string
	argv []string

	mu      sync.Mutex
	current *exec.Cmd
	stopped bool
	done    chan struct{}
}

// start starts the program; how it goes on is in its log.
func (p *program) start() error {
	p.stopped, p.done = false, make(chan struct{})
	cmd, err := p.once()
	if err != nil {
		return err
	}
	go p.keep(cmd)
	return nil
}

// once starts the program, or returns nil when it has been stopped.
func (p *program) once() (*exec.Cmd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil
	}
	log, err := os.OpenFile(filepath.Join(logDir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.current = cmd
	return cmd, nil
}

func (p *program) keep(cmd *exec.Cmd) {
	defer close(p.done)
	for cmd != nil {
		// Why it has ended is in its log.
		_ = cmd.Wait()
		time.Sleep(restartPause)
		var err error
		if cmd, err = p.once(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// running tells whether the program has been started and not stopped.
func (p *program) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current != nil && !p.stopped
}

// terminate asks the program to stop; wait waits until it has.
func (p *program) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	_ = p.current.Process.Signal(syscall.SIGTERM)
}

func (p *program) wait() error {
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	p.mu.Lock()
	_ = p.current.Process.Kill()
	p.mu.Unlock()
	<-p.done
	return fmt.Errorf("%s did not stop within %v", p.name, stopTimeout)
}

// warm reads a file, so that the first start finds it in memory as all others
// do.
func warm(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(io.Discard, file)
	return err
}

// tails is an error with the last lines of all logs in a directory.
func tails(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	const last = 15
	var errs []error
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		errs = append(errs, fmt.Errorf("%s ends with:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-last):], "\n")))
	}
	return errors.Join(errs...)
}
