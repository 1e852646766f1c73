// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is a line of `go test -json`, see `go doc test2json` and, for builds,
// `go help buildjson`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// slow is from how many seconds on a test that passed gets a line of its own.
const slow = 5

// summary follows the events of a run and prints what a person wants to know.
type summary struct {
	out      io.Writer
	packages map[string]*pkg
	builds   map[string][]string
	failures []string
	// said are the lines about skipped tests.
	said map[string]bool

	passed, skipped      int
	rootRan, rootSkipped int
}

type pkg struct {
	tests                   map[string]*test
	output                  []string
	passed, failed, skipped int
}

type test struct {
	output []string
	// parent is set when it has subtests: those are counted in its stead.
	parent bool
	// blamed is set when a subtest failed: that one is reported.
	blamed bool
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, packages: map[string]*pkg{}, builds: map[string][]string{}, said: map[string]bool{}}
}

// line takes a line of go test. What is not an event is shown as it is.
func (s *summary) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprint(s.out, string(line))
		return
	}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "run":
		s.pkg(e.Package).start(e.Test)
	case "output":
		s.output(e)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageEnded(e)
		} else {
			s.testEnded(e)
		}
	}
}

func (s *summary) pkg(path string) *pkg {
	p := s.packages[path]
	if p == nil {
		p = &pkg{tests: map[string]*test{}}
		s.packages[path] = p
	}
	return p
}

func (p *pkg) start(name string) *test {
	t := p.tests[name]
	if t == nil {
		t = &test{}
		p.tests[name] = t
		if above := p.above(name); above != nil {
			above.parent = true
		}
	}
	return t
}

// above is the test that a subtest belongs to.
func (p *pkg) above(name string) *test {
	for {
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			return nil
		}
		name = name[:cut]
		if t := p.tests[name]; t != nil {
			return t
		}
	}
}

func (s *summary) output(e event) {
	p := s.pkg(e.Package)
	if e.Test == "" {
		p.output = append(p.output, e.Output)
		return
	}
	if strings.HasPrefix(e.Output, "=== ") {
		return
	}
	t := p.start(e.Test)
	t.output = append(t.output, e.Output)
}

func (s *summary) testEnded(e event) {
	p := s.pkg(e.Package)
	t := p.start(e.Test)
	s.countRoot(e)
	switch {
	case e.Action == "fail":
		if above := p.above(e.Test); above != nil {
			above.blamed = true
		}
		if !t.blamed {
			p.failed++
			s.fail(e.Package + " " + e.Test)
			s.show(t.output)
		}
	case t.parent:
	case e.Action == "skip":
		p.skipped++
		s.skipped++
		if line := fmt.Sprintf("skip  %s %s: %s\n", e.Package, e.Test, reason(t.output)); !s.said[line] {
			s.said[line] = true
			fmt.Fprint(s.out, line)
		}
	default:
		p.passed++
		s.passed++
		if e.Elapsed >= slow {
			fmt.Fprintf(s.out, "ok    %s %s (%.1f s)\n", e.Package, e.Test, e.Elapsed)
		}
	}
	if t.parent || e.Action != "fail" {
		t.output = nil
	}
}

// countRoot counts the tests, not their subtests, that need root.
func (s *summary) countRoot(e event) {
	if strings.Contains(e.Test, "/") {
		return
	}
	if !strings.HasPrefix(e.Test, "TestRoot") && !strings.Contains(e.Package, endToEnd) {
		return
	}
	if e.Action == "skip" {
		s.rootSkipped++
	} else {
		s.rootRan++
	}
}

// reason is what a test said when it skipped itself.
func reason(output []string) string {
	for _, line := range output {
		if _, said, ok := strings.Cut(line, ".go:"); ok {
			if _, said, ok = strings.Cut(said, ": "); ok {
				return strings.TrimSpace(said)
			}
		}
	}
	return "no reason given"
}

func (s *summary) packageEnded(e event) {
	p := s.pkg(e.Package)
	delete(s.packages, e.Package)
	if e.Action == "fail" && p.failed == 0 {
		p.failed++
		s.fail(e.Package)
		s.show(s.builds[e.FailedBuild])
		s.show(p.output)
	}
	if p.passed+p.failed+p.skipped == 0 {
		return
	}
	word := "ok  "
	if p.failed > 0 {
		word = "FAIL"
	}
	fmt.Fprintf(s.out, "%s  %s: %d passed, %d failed, %d skipped (%.1f s)\n",
		word, e.Package, p.passed, p.failed, p.skipped, e.Elapsed)
}

// ended takes what go test ended with; it must agree with the events.
func (s *summary) ended(err error) {
	var open []string
	for path := range s.packages {
		open = append(open, path)
	}
	slices.Sort(open)
	for _, path := range open {
		s.fail(path + " did not end")
		delete(s.packages, path)
	}
	if err != nil && len(s.failures) == 0 {
		s.fail("go test: " + err.Error())
	}
}

// fail notes a failure and announces it; what is shown next belongs to it.
func (s *summary) fail(what string) {
	s.failures = append(s.failures, what)
	fmt.Fprintln(s.out, "FAIL ", what)
}

func (s *summary) show(output []string) {
	for _, line := range output {
		fmt.Fprint(s.out, "      ", line)
	}
}

// close repeats what failed and prints the counts.
func (s *summary) close() {
	if len(s.failures) > 0 {
		fmt.Fprintln(s.out, "\nfailed:")
		count := map[string]int{}
		for _, what := range s.failures {
			count[what]++
		}
		for _, what := range slices.Sorted(maps.Keys(count)) {
			fmt.Fprint(s.out, "      ", what)
			if n := count[what]; n > 1 {
				fmt.Fprintf(s.out, ", %d times", n)
			}
			fmt.Fprintln(s.out)
		}
	}
	fmt.Fprintf(s.out, "\nroot tests: %d ran, %d skipped\n", s.rootRan, s.rootSkipped)
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, len(s.failures), s.skipped)
}
