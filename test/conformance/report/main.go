// SPDX-License-Identifier: Apache-2.0

// Command report turns the JUnit files of a conformance run into a page:
// counts for each SIG, and each failure with its message and, where it is
// known, its reason.
//
//	report -known known.yaml -out docs/conformance.md RESULTS
package main

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	known := flag.String("known", "", "file of known failures: text of a spec to reason")
	out := flag.String("out", "", "page to write")
	flag.Parse()
	if err := run(*known, *out, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func run(known, out, results string) error {
	reasons, err := readKnown(known)
	if err != nil {
		return err
	}
	specs, err := readResults(results)
	if err != nil {
		return err
	}
	if len(specs) == 0 {
		return fmt.Errorf("no results in %s", results)
	}
	page := render(specs, reasons, facts())
	return os.WriteFile(out, []byte(page), 0o644)
}

func readKnown(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	if err := yaml.UnmarshalStrict(data, &reasons); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return reasons, nil
}

// readResults reads all JUnit files below a directory.
func readResults(dir string) ([]spec, error) {
	var all []spec
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "junit") || filepath.Ext(path) != ".xml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		specs, err := parse(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, specs...)
		return nil
	})
	return all, err
}

// junit is the part of a JUnit file that matters here.
type junit struct {
	Suites []struct {
		Cases []struct {
			Name    string    `xml:"name,attr"`
			Time    float64   `xml:"time,attr"`
			Skipped *struct{} `xml:"skipped"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// spec is one test that has run.
type spec struct {
	sig, name string
	took      time.Duration
	// failure is what it says, empty when it has passed.
	failure string
}

// parse returns the specs that have run; those left out are in the file too.
func parse(data []byte) ([]spec, error) {
	var file junit
	if err := xml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var specs []spec
	for _, suite := range file.Suites {
		for _, c := range suite.Cases {
			name, isSpec := strings.CutPrefix(c.Name, "[It] ")
			if !isSpec || c.Skipped != nil {
				continue
			}
			s := spec{sig: sigOf(name), name: name, took: time.Duration(c.Time * float64(time.Second))}
			switch {
			case c.Failure != nil:
				s.failure = firstLine(c.Failure.Message, c.Failure.Text)
			case c.Error != nil:
				s.failure = firstLine(c.Error.Message, c.Error.Text)
			}
			specs = append(specs, s)
		}
	}
	return specs, nil
}

func sigOf(name string) string {
	if rest, found := strings.CutPrefix(name, "["); found {
		if sig, _, found := strings.Cut(rest, "]"); found && strings.HasPrefix(sig, "sig-") {
			return sig
		}
	}
	return "none"
}

func firstLine(texts ...string) string {
	for _, text := range texts {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				return line
			}
		}
	}
	return "failed without a word"
}

// facts say where the tests have run.
func facts() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return fmt.Sprintf("Run on %s, Kubernetes v1.37.2, Linux %s, two nodes on one machine with two cores.",
		time.Now().UTC().Format("2006-01-02"), unix.ByteSliceToString(u.Release[:]))
}
