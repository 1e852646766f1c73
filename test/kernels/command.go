// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// command is a program to run on this machine.
type command struct {
	name string
	args []string
	dir  string
	// env is added to the environment.
	env []string
}

// run runs the command; what it prints is in the error when it fails.
func (c command) run() error {
	_, err := c.output()
	return err
}

// output returns what the command prints on standard output.
func (c command) output() (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(c.name, c.args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s%s", c.name, strings.Join(c.args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// replaced makes a file or directory under another name and gives it its name
// when it is complete, so that what is there can be used.
func replaced(path string, build func(path string) error) error {
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := build(temp); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
