// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Write writes the rows to a file NAME.json, and what they were measured on to
// NAME.about.json beside it.
func Write(path string, about About, rows []Row) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return errors.Join(encode(path, rows), encode(aboutFile(path), about))
}

// Read reads what Write has written. The error is fs.ErrNotExist when there
// is nothing.
func Read(path string) (About, []Row, error) {
	var about About
	var rows []Row
	err := errors.Join(decode(path, &rows), decode(aboutFile(path), &about))
	return about, rows, err
}

// Page puts results into the text that says how they were measured: at the
// line that holds only marker.
func Page(text string, about About, rows []Row) (string, error) {
	before, after, found := strings.Cut(text, "\n"+marker+"\n")
	if !found {
		return "", fmt.Errorf("text of the page: no line %s", marker)
	}
	return before + "\n" + Markdown(about, rows) + after, nil
}

const marker = "<!-- results -->"

func aboutFile(path string) string { return strings.TrimSuffix(path, ".json") + ".about.json" }

func encode(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func decode(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}
