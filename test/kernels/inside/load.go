// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/test/kernels/result"
)

const (
	testBinary = "bpf.test"
	// loadTest has a subtest for each program, named as the program.
	loadTest = "TestRootEveryProgramLoads"
	// testTimeout is for one test binary in emulation.
	testTimeout = 25 * time.Minute
	// skipped is the mode of a test that was not run.
	skipped = "skipped"
)

// load tells what `slipway check` finds, and whether that is true: that all
// programs load and attach if it finds nothing missing. Where there is no
// slipway for this processor, the programs are loaded all the same.
func load(h *host) {
	if _, err := exec.LookPath("slipway"); err != nil {
		h.loadPrograms()
		return
	}
	missing, err := h.check()
	if err != nil {
		h.step(step{"slipway check", func() error { return err }})
		return
	}
	loads := h.loadPrograms()
	h.step(step{"check agrees", func() error {
		if (len(missing) == 0) != loads {
			return fmt.Errorf("slipway check finds missing: %d, the programs load: %v", len(missing), loads)
		}
		return nil
	}})
}

// finding is an object that `slipway check -o json` prints.
type finding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Do   string `json:"do"`
	Mode string `json:"mode"`
}

// check runs `slipway check`, records what it finds, and returns what is
// missing.
func (h *host) check() (missing []finding, err error) {
	begin := time.Now()
	r := program(2*time.Minute, "slipway", "check", "-o", "json")
	var findings []finding
	if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil {
		r = program(2*time.Minute, "slipway", "check")
		findings = parseCheck(r.stdout)
	}
	took := time.Since(begin).Seconds()
	for _, f := range findings {
		h.tell(result.Line{Kind: result.Check, Name: f.Name, OK: f.OK, Mode: f.Mode, Says: strings.TrimSpace(f.Says + " " + f.Do)})
		if !f.OK {
			missing = append(missing, f)
		}
	}
	if len(findings) == 0 || (r.err == nil) != (len(missing) == 0) {
		return nil, fmt.Errorf("it prints %d findings, %d of them bad, and ends so: %v", len(findings), len(missing), r.failure())
	}
	h.tell(result.Line{Kind: result.Step, Name: "slipway check", OK: true, Seconds: took})
	return missing, nil
}

var checkLine = regexp.MustCompile(`^(ok  |FAIL)  (\S.*?)\s{2,}(.*)$`)

// parseCheck reads what `slipway check` prints for people.
func parseCheck(text string) []finding {
	var all []finding
	for line := range strings.Lines(text) {
		match := checkLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if match == nil {
			continue
		}
		name, says, _ := strings.Cut(match[3], ": ")
		all = append(all, finding{Name: match[2] + ": " + name, OK: match[1] == "ok  ", Says: says})
	}
	return all
}

// loadPrograms loads and attaches every program, and tells whether all could
// be.
func (h *host) loadPrograms() bool {
	r := testRun("^" + loadTest + "$")
	found := parseTests(r.stdout)
	all := true
	for _, t := range found {
		name, isProgram := strings.CutPrefix(t.Name, loadTest+"/")
		if !isProgram {
			name = "all programs"
		}
		t.Kind, t.Name, t.OK = result.Program, name, t.OK && t.Mode != skipped
		all = all && t.OK
		h.tell(t)
	}
	if len(found) == 0 {
		h.step(step{"load all programs", func() error {
			return errors.Join(r.failure(), fmt.Errorf("%s has no %s", testBinary, loadTest))
		}})
		return false
	}
	return all && r.err == nil
}

// tests runs the root tests of package bpf.
func tests(h *host) {
	begin := time.Now()
	r := testRun("^TestRoot")
	passed, skipped := strings.Count("\n"+r.stdout, "\n--- PASS"), strings.Count("\n"+r.stdout, "\n--- SKIP")
	for _, t := range parseTests(r.stdout) {
		if !t.OK {
			h.tell(t)
		}
	}
	line := result.Line{Kind: result.Step, Name: "root tests of bpf", OK: r.err == nil, Seconds: time.Since(begin).Seconds(),
		Says: fmt.Sprintf("%d passed, %d skipped", passed, skipped)}
	if r.err != nil {
		line.Says += ": " + r.err.Error()
	}
	h.tell(line)
}

// testRun runs tests in a directory that they may write to, and keeps what
// they print beside the results.
func testRun(pattern string) ran {
	if err := os.Chdir("/tmp"); err != nil {
		return ran{err: err}
	}
	r := program(testTimeout, testBinary, "-test.v", "-test.timeout=0", "-test.run", pattern)
	name := regexp.MustCompile(`\W`).ReplaceAllString(pattern, "")
	if err := os.WriteFile("/lab/out/"+name+".txt", []byte(r.stdout+r.stderr), 0o644); err != nil {
		r.err = errors.Join(r.err, err)
	}
	return r
}

var (
	testEnd = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	// testLogs precedes what a test logs.
	testLogs = regexp.MustCompile(`^=== (?:RUN|CONT|NAME)\s+(\S+)`)
)

// parseTests reads what a test binary prints with -test.v. The ends of
// subtests stand below that of their test, which ends last.
func parseTests(text string) []result.Line {
	var all []result.Line
	said := map[string][]string{}
	current := ""
	for line := range strings.Lines(text) {
		if match := testLogs.FindStringSubmatch(line); match != nil {
			current = match[1]
			continue
		}
		match := testEnd.FindStringSubmatch(line)
		if match == nil {
			said[current] = append(said[current], strings.TrimSpace(line))
			continue
		}
		current = ""
		// The pattern has made sure that it is a number.
		seconds, _ := strconv.ParseFloat(match[3], 64)
		t := result.Line{Kind: result.Step, Name: match[2], OK: match[1] != "FAIL", Seconds: seconds}
		if match[1] == "SKIP" {
			t.Mode = skipped
		}
		all = append(all, t)
	}
	for i, t := range all {
		if !t.OK || t.Mode == skipped {
			all[i].Says = strings.Join(said[t.Name], "\n")
		}
	}
	return all
}
