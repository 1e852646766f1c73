// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway.dev/slipway/test/kernels/result"
)

// trial is one part on one kernel, as it is kept in a file.
type trial struct {
	Kernel string `json:"kernel"`
	Part   string `json:"part"`
	// Release and Version are what uname tells.
	Release string `json:"release"`
	Version string `json:"version"`
	// Slipway is the version that was tried.
	Slipway string        `json:"slipway"`
	Date    string        `json:"date"`
	Seconds float64       `json:"seconds"`
	Passed  bool          `json:"passed"`
	Lines   []result.Line `json:"lines"`
	// Error tells why there are no results, or not all.
	Error string `json:"error,omitempty"`
}

// tryAll tries the parts on the kernels, as far as each part is for them, and
// fails when one does not pass.
func (l *lab) tryAll(ctx context.Context, chosen []wanted, all []part) error {
	var failed []string
	for _, w := range chosen {
		for _, p := range all {
			if !slices.Contains(p.kernels, w.name) || ctx.Err() != nil {
				continue
			}
			t, err := l.try(ctx, w, p)
			if err != nil {
				return err
			}
			l.report(t)
			if !t.Passed {
				failed = append(failed, w.name+"/"+p.name)
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

// try boots the guests of a part and keeps what they tell. The error is for
// what is wrong with the lab.
func (l *lab) try(ctx context.Context, w wanted, p part) (trial, error) {
	l.say("kernel %s, %s: %s", w.name, p.name, p.says)
	t := trial{Kernel: w.name, Part: p.name, Date: time.Now().UTC().Format(time.DateOnly)}
	g := p.guest
	g.name, g.script = p.name, p.script(p.verbs)
	if p.upgrade != "" {
		root, err := l.ownDisk()
		if err != nil {
			return t, err
		}
		defer os.Remove(root)
		g.root = root
	}
	if err := l.tryGuest(ctx, w, g, &t); err != nil || p.upgrade == "" || t.Error != "" {
		return t, errors.Join(err, l.keep(t))
	}
	next, err := choose([]string{p.upgrade})
	if err != nil {
		return t, err
	}
	g.name, g.script = p.name+"-upgrade", p.script(p.upgradeVerbs)
	return t, errors.Join(l.tryGuest(ctx, next[0], g, &t), l.keep(t))
}

// tryGuest boots one guest and adds its results.
func (l *lab) tryGuest(ctx context.Context, w wanted, g guest, t *trial) error {
	var err error
	if g.kernel, err = l.fetch(w); err != nil {
		return err
	}
	if err := l.payload(w.arch); err != nil {
		return err
	}
	g.script = "uname -r >/lab/out/release; uname -v >/lab/out/version; slipway version >/lab/out/slipway\n" + g.script
	e, err := l.boot(ctx, g)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		t.Error = err.Error()
	}
	lines, err := result.Read(filepath.Join(e.out, "results"))
	if err != nil {
		return err
	}
	t.Seconds += e.took.Seconds()
	t.Lines = append(t.Lines, lines...)
	t.Release, t.Version, t.Slipway = first(e.out, "release"), first(e.out, "version"), first(e.out, "slipway")
	t.Passed = t.Error == "" && e.status == 0
	if t.Error == "" && len(lines) == 0 {
		t.Error = fmt.Sprintf("no results, status %d; see %s", e.status, e.log)
	}
	return nil
}

// first is the first line of a file, nothing when there is no file.
func first(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// ownDisk copies the guests' system for guests that keep what they write.
func (l *lab) ownDisk() (string, error) {
	image, err := l.rootImage(ready)
	if err != nil {
		return "", err
	}
	own := filepath.Join(l.dir, "root-own.img")
	return own, command{name: "cp", args: []string{"--sparse=always", image, own}}.run()
}

// keep writes a trial where it replaces the last of its kind.
func (l *lab) keep(t trial) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Join(l.dir, "results")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, t.Kernel+"-"+t.Part+".json"), append(data, '\n'), 0o644)
}

// report tells the end of a trial and what failed in it.
func (l *lab) report(t trial) {
	mark := "passed"
	if !t.Passed {
		mark = "FAILED"
	}
	l.say("kernel %s, %s: %s after %.0f s %s", t.Kernel, t.Part, mark, t.Seconds, t.Error)
	for _, line := range t.Lines {
		if !line.OK && line.Kind != result.Check {
			l.say("  %s %s: %s", line.Kind, line.Name, line.Says)
		}
	}
}
