// SPDX-License-Identifier: Apache-2.0

// Command report runs the tests of packages, one package at a time, and tells
// what happened so that a person can read it: a line a package, the output of
// what failed, and the counts on the last line. End-to-end tests come last.
// It is what `make test` and `make test-flaky` run.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// kind is which tests to run.
type kind string

const (
	all  kind = "all"
	unit kind = "unit"
	root kind = "root"
)

// endToEnd is in the path of the packages that run a whole cluster.
const endToEnd = "/test/e2e"

func main() {
	which := flag.String("kind", string(all), "which tests to run: all, unit, or root")
	requireRoot := flag.Bool("require-root", false, "fail when no root test ran")
	times := flag.Int("times", 1, "how often to run each test")
	busy := flag.Bool("hog", false, "keep every processor busy meanwhile")
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	if *busy {
		hog()
	}
	failed, err := run(os.Stdout, options{kind: kind(*which), requireRoot: *requireRoot, patterns: patterns, times: *times})
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

type options struct {
	kind        kind
	requireRoot bool
	patterns    []string
	times       int
}

// hog keeps every processor busy for as long as this process lives.
func hog() {
	for range runtime.NumCPU() {
		go func() {
			for i := 0; ; i++ {
			}
		}()
	}
}

// run tells whether anything failed; the error is for when the tests could
// not be run.
func run(out io.Writer, opts options) (bool, error) {
	here, last, err := packages(opts.patterns)
	if err != nil {
		return true, err
	}
	seen := newSummary(out)
	steps := map[kind][][]string{
		all:  {here, last},
		unit: {with("-skip=^TestRoot", here)},
		root: {with("-run=^TestRoot", here), last},
	}[opts.kind]
	if steps == nil {
		return true, fmt.Errorf("kind %q: expected all, unit or root", opts.kind)
	}
	// Each time in processes of its own: not every suite can run twice in one.
	for range opts.times {
		for _, args := range steps {
			if err := goTest(seen, args); err != nil {
				return true, err
			}
		}
	}
	if opts.requireRoot && seen.rootRan == 0 {
		seen.fail("no root test ran")
	}
	seen.close()
	return len(seen.failures) > 0, nil
}

// with puts a flag before the packages, if there are any.
func with(flag string, packages []string) []string {
	if len(packages) == 0 {
		return nil
	}
	return append([]string{flag}, packages...)
}

// packages lists what the patterns match, the end-to-end tests apart.
func packages(patterns []string) (here, last []string, err error) {
	list := exec.Command("go", append([]string{"list"}, patterns...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("list packages: %w", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if strings.Contains(path, endToEnd) {
			last = append(last, path)
		} else {
			here = append(here, path)
		}
	}
	return here, last, nil
}

// goTest runs go test and feeds what it says to the summary. Tests that fail
// are not an error.
func goTest(seen *summary, args []string) error {
	if len(args) == 0 {
		return nil
	}
	// One package at a time: root tests of two packages would meet in the
	// kernel. Vet runs on its own, see `make lint`.
	test := exec.Command("go", append([]string{"test", "-json", "-count=1", "-p=1", "-vet=off", "-timeout=30m"}, args...)...)
	test.Stderr = os.Stderr
	events, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	if err := test.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			seen.line(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read go test: %w", err)
		}
	}
	seen.ended(test.Wait())
	return nil
}
