// SPDX-License-Identifier: Apache-2.0

// Package result is what a guest of the kernel lab tells the lab: a line of
// JSON for each thing that was tried. It has no state.
package result

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Kind is what a line is about.
type Kind string

// Kinds of lines.
const (
	// Check is a line of `slipway check`: what the machine has.
	Check Kind = "check"
	// Program is a BPF program that was loaded and attached.
	Program Kind = "program"
	// Step is something that was done, which must succeed.
	Step Kind = "step"
)

// Line is one thing that was tried.
type Line struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Mode is "native" or "fallback", for checks that know both.
	Mode    string  `json:"mode,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Says is what was found, or why it failed.
	Says string `json:"says,omitempty"`
}

// Append adds a line to a file.
func Append(path string, line Line) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	return errors.Join(err, file.Close())
}

// Read returns the lines of a file; none when there is no file.
func Read(path string) ([]Line, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []Line
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		var line Line
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			return lines, fmt.Errorf("%s: %w", path, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}
