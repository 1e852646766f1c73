// SPDX-License-Identifier: Apache-2.0

// Command inside runs in a guest of the kernel lab: it tries Slipway on the
// guest's kernel and tells each result in a line of JSON. The exit status is 0
// when everything was as it must be.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"slipway.dev/slipway/test/kernels/result"
)

func main() {
	out := flag.String("out", "/lab/out/results", "file for the results")
	flag.Parse()
	verbs := map[string]func(*host){
		"load": load, "tests": tests, "start": start, "cluster": cluster, "refused": refused, "fresh": fresh,
		"before-reboot": beforeReboot, "after-reboot": afterReboot,
	}
	h := &host{results: *out}
	for _, name := range flag.Args() {
		verb, found := verbs[name]
		if !found {
			fmt.Fprintf(os.Stderr, "inside: verb %q: expected load, tests, start, cluster, refused, fresh, before-reboot or after-reboot\n", name)
			os.Exit(2)
		}
		verb(h)
	}
	if h.failed || len(h.names) == 0 {
		os.Exit(1)
	}
}

// host is the machine that this program runs on.
type host struct {
	results string
	names   []string
	failed  bool
}

// tell records a result.
func (h *host) tell(line result.Line) {
	mark := "ok  "
	if !line.OK {
		mark = "FAIL"
	}
	fmt.Printf("%s %s %s (%.1f s) %s\n", mark, line.Kind, line.Name, line.Seconds, line.Says)
	h.names = append(h.names, line.Name)
	h.failed = h.failed || !line.OK && line.Kind != result.Check
	if err := result.Append(h.results, line); err != nil {
		fmt.Fprintln(os.Stderr, "inside:", err)
		h.failed = true
	}
}

// step is something to do.
type step struct {
	name string
	do   func() error
}

// steps does one step after the other and ends with the first that fails. It
// tells whether all succeeded.
func (h *host) steps(all []step) bool {
	return !slices.ContainsFunc(all, func(s step) bool { return !h.step(s) })
}

func (h *host) step(s step) bool {
	begin := time.Now()
	err := s.do()
	line := result.Line{Kind: result.Step, Name: s.name, OK: err == nil, Seconds: time.Since(begin).Seconds()}
	if err != nil {
		line.Says = err.Error()
	}
	h.tell(line)
	return err == nil
}
