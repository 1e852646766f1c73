// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// results are those of a run.
type results struct {
	specs []spec
	took  time.Duration
}

// spec is a test that was chosen to run.
type spec struct {
	name    string
	outcome outcome
	// says is the first line of what it says when it has not passed.
	says string
}

type outcome int

const (
	passed outcome = iota
	failed
	// skipped is by the test itself: something that it needs is not there.
	skipped
)

// sig is who owns the test.
func (s spec) sig() string {
	if rest, found := strings.CutPrefix(s.name, "["); found {
		if sig, _, found := strings.Cut(rest, "]"); found && strings.HasPrefix(sig, "sig-") {
			return sig
		}
	}
	return "none"
}

// readResults reads all JUnit files below a directory.
func readResults(dir string) (results, error) {
	var all results
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "junit") || filepath.Ext(path) != ".xml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found, err := parse(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all.specs = append(all.specs, found.specs...)
		all.took += found.took
		return nil
	})
	return all, err
}

// junit is the part of a JUnit file that matters here.
type junit struct {
	Suites []struct {
		Time  float64 `xml:"time,attr"`
		Cases []struct {
			Name    string `xml:"name,attr"`
			Skipped *said  `xml:"skipped"`
			Failure *said  `xml:"failure"`
			Error   *said  `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type said struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// leftOut is the message of a test that was not chosen.
const leftOut = "skipped"

func parse(data []byte) (results, error) {
	var file junit
	if err := xml.Unmarshal(data, &file); err != nil {
		return results{}, err
	}
	var r results
	for _, suite := range file.Suites {
		r.took += time.Duration(suite.Time * float64(time.Second))
		for _, c := range suite.Cases {
			name, isSpec := strings.CutPrefix(c.Name, "[It] ")
			if !isSpec || c.Skipped != nil && c.Skipped.Message == leftOut {
				continue
			}
			s := spec{name: strings.Join(strings.Fields(name), " ")}
			switch {
			case c.Skipped != nil:
				s.outcome, s.says = skipped, c.Skipped.firstLine()
			case c.Failure != nil:
				s.outcome, s.says = failed, c.Failure.firstLine()
			case c.Error != nil:
				s.outcome, s.says = failed, c.Error.firstLine()
			}
			r.specs = append(r.specs, s)
		}
	}
	return r, nil
}

func (s said) firstLine() string {
	for _, text := range []string{s.Message, s.Text} {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "[FAILED]"))
			if line != "" {
				return line
			}
		}
	}
	return "nothing"
}
