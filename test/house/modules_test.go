// SPDX-License-Identifier: Apache-2.0

package house

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/internal/version"
)

// dependencyRow is a line of the table in docs/dependencies.md.
var dependencyRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\S+) \\| (.*) \\|$")

func TestDependenciesHaveReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range dependencyRow.FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2]
		if len(strings.TrimSpace(row[3])) < 10 {
			t.Errorf("%s: no reason given", row[1])
		}
	}
	if diff := cmp.Diff(direct(t), documented); diff != "" {
		t.Errorf("docs/dependencies.md is not what our code imports (-code +docs):\n%s", diff)
	}
}

func TestKubernetesVersion(t *testing.T) {
	want := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Version}}", upstream))
	if version.Kubernetes != want {
		t.Errorf("version.Kubernetes is %s, go.mod has %s", version.Kubernetes, want)
	}
}

// direct gives the modules that our packages and their tests import, or that
// we run as tools, and the versions that are really used.
func direct(t *testing.T) map[string]string {
	t.Helper()
	imports := run(t, "go", "list", "-f", `{{range .Imports}}{{.}} {{end}}{{range .TestImports}}{{.}} {{end}}{{range .XTestImports}}{{.}} {{end}}`, module+"...")
	distinct := map[string]bool{"tool": true}
	for path := range strings.FieldsSeq(imports) {
		distinct[path] = true
	}
	used := run(t, "go", append([]string{"list", "-f",
		`{{with .Module}}{{if not .Main}}{{.Path}} {{if .Replace}}{{.Replace.Version}}{{else}}{{.Version}}{{end}}{{end}}{{end}}`},
		slices.Sorted(maps.Keys(distinct))...)...)
	modules := map[string]string{}
	for line := range strings.Lines(used) {
		if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			modules[path] = version
		}
	}
	return modules
}
