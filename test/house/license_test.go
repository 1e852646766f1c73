// SPDX-License-Identifier: Apache-2.0

package house

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilesNameTheirLicense looks at the first lines of our sources. What
// bpf2go generates is exempt.
func TestFilesNameTheirLicense(t *testing.T) {
	for path := range strings.SplitSeq(run(t, "git", "-c", "safe.directory=*", "ls-files", "-z", "*.go", "*.c", "*.h"), "\x00") {
		if path == "" || strings.HasSuffix(path, "_bpfel.go") || strings.HasSuffix(path, "_bpfeb.go") {
			continue
		}
		content, err := os.ReadFile(filepath.Join("../..", path))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(content), "\n")
		if !strings.Contains(first, "SPDX-License-Identifier: ") {
			t.Errorf("%s: its first line has no SPDX-License-Identifier", path)
		}
	}
}
