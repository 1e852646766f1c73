// SPDX-License-Identifier: Apache-2.0

// Command page writes docs/bench/NAME.md for each benchmark that has been run:
// the text of bench/NAME/page.md with the results of bench/out/NAME.json in it,
// and beside it the plot bench/out/NAME.svg, if the benchmark makes one.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"slipway.dev/slipway/bench/report"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run() error {
	texts, err := filepath.Glob("bench/*/page.md")
	if err != nil {
		return err
	}
	written := false
	for _, text := range texts {
		name := filepath.Base(filepath.Dir(text))
		err := write(text, filepath.Join("bench/out", name+".json"), filepath.Join("docs/bench", name+".md"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		written = true
	}
	if !written {
		return errors.New("there are no results in bench/out: run a benchmark first")
	}
	return nil
}

func write(text, results, page string) error {
	content, err := os.ReadFile(text)
	if err != nil {
		return err
	}
	about, rows, err := report.Read(results)
	if err != nil {
		return err
	}
	full, err := report.Page(string(content), about, rows)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(page), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(page, []byte(full), 0o644); err != nil {
		return err
	}
	fmt.Println("wrote", page)
	return copyPlot(strings.TrimSuffix(results, ".json")+".svg", strings.TrimSuffix(page, ".md")+".svg")
}

func copyPlot(from, to string) error {
	plot, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("wrote", to)
	return os.WriteFile(to, plot, 0o644)
}
