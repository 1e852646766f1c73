// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRootOpensAgain opens the data path many times, with as many modules that have
// types as there are: the library reads those of all of them to find what is not
// the kernel's own, and must not do so from two goroutines at once.
func TestRootOpensAgain(t *testing.T) {
	pins := bpffs(t)
	for _, module := range []string{"nf_conntrack", "nf_tables", "vxlan", "bridge", "sctp", "8021q", "bonding", "ip_set"} {
		// One that is built in, or missing, is no matter.
		_ = exec.Command("modprobe", module).Run()
	}
	types, err := filepath.Glob("/sys/kernel/btf/*")
	if err != nil || len(types) == 0 {
		t.Skip("the kernel has no types")
	}
	t.Logf("%d modules with types", len(types)-1)
	for range 4 {
		if err := openDatapath(t, pins).Close(); err != nil {
			t.Fatal(err)
		}
	}
}
