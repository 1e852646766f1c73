// SPDX-License-Identifier: Apache-2.0

// Command report turns the JUnit files of a conformance run into a page:
// counts for each SIG, and each test that has failed, or that has not run,
// with what it says and, where it is known, its reason.
//
//	report -known known.yaml -nodes nodes.json -out page.md RESULTS
//
// It ends with status 1 when a test has failed for no known reason. With
// -list, which names upstream's list of conformance tests, one that has not
// run, or has skipped itself, counts as well.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	var in input
	flag.StringVar(&in.known, "known", "", "file of known failures: text of a test to reason")
	flag.StringVar(&in.nodes, "nodes", "", "file with the nodes of the cluster, as kubectl gives them")
	flag.StringVar(&in.list, "list", "", "file with upstream's list of conformance tests, all of which must have run")
	out := flag.String("out", "", "page to write")
	flag.Parse()
	in.results = flag.Arg(0)
	if err := run(in, *out); err != nil {
		log.Fatal(err)
	}
}

// input are the files that a page is made of.
type input struct{ known, nodes, list, results string }

func run(in input, out string) error {
	page, err := in.read()
	if err != nil {
		return err
	}
	page.date = time.Now().UTC()
	if err := os.WriteFile(out, []byte(page.render()), 0o644); err != nil {
		return err
	}
	fmt.Println(page.summary())
	if n := page.unexplained(); n > 0 {
		return fmt.Errorf("%d tests have failed or not run, for no known reason; see %s", n, out)
	}
	return nil
}

func (in input) read() (page, error) {
	var p page
	var err error
	if p.results, err = readResults(in.results); err != nil {
		return p, err
	}
	if len(p.specs) == 0 {
		return p, errors.New("no test of " + in.results + " has run")
	}
	if err := readYAML(in.known, &p.reasons); err != nil {
		return p, err
	}
	if p.nodes, err = readNodes(in.nodes); err != nil || in.list == "" {
		return p, err
	}
	p.all, err = readList(in.list)
	p.missing = missing(p.all, p.specs)
	return p, err
}

func readYAML(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readList returns the names in upstream's list.
func readList(path string) ([]string, error) {
	var entries []struct{ Codename string }
	if err := readYAML(path, &entries); err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Codename
	}
	return names, nil
}

// missing returns the names of the list that are none of the specs'.
func missing(list []string, specs []spec) []string {
	have := map[string]bool{}
	for _, s := range specs {
		have[s.name] = true
	}
	var names []string
	for _, name := range list {
		if !have[strings.Join(strings.Fields(name), " ")] {
			names = append(names, name)
		}
	}
	return names
}

// node is what the page says of a node.
type node struct {
	Status struct {
		NodeInfo struct {
			KubeletVersion, KernelVersion, OSImage, ContainerRuntimeVersion string
		}
		Capacity struct{ CPU, Memory resource.Quantity }
	}
}

func readNodes(path string) ([]node, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list struct{ Items []node }
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("%s: no nodes in it", path)
	}
	return list.Items, nil
}
