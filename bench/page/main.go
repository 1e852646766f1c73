// SPDX-License-Identifier: Apache-2.0

// Command page writes docs/bench/NAME.md for benchmarks: the text of
// bench/NAME/page.md with the results of bench/out/NAME.json in it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"slipway.dev/slipway/bench/report"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: page NAME...")
		os.Exit(2)
	}
	for _, name := range os.Args[1:] {
		if err := write(name); err != nil {
			fmt.Fprintf(os.Stderr, "page %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func write(name string) error {
	text, err := os.ReadFile(filepath.Join("bench", name, "page.md"))
	if err != nil {
		return err
	}
	about, rows, err := report.Read(filepath.Join("bench/out", name+".json"))
	if err != nil {
		return err
	}
	page, err := report.Page(string(text), about, rows)
	if err != nil {
		return err
	}
	if err := os.MkdirAll("docs/bench", 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("docs/bench", name+".md"), []byte(page), 0o644)
}
