// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"testing"
)

// freshKernel gives machine-wide settings of the kernel the values of a boot, so that
// no earlier run hides what a node leaves behind. The test's end gives them back.
func freshKernel(t *testing.T) {
	t.Helper()
	for path, value := range map[string]string{
		"/proc/sys/vm/overcommit_memory":          "0",
		"/proc/sys/kernel/panic":                  "0",
		"/proc/sys/kernel/panic_on_oops":          "0",
		"/proc/sys/fs/inotify/max_user_instances": "128",
		"/proc/sys/fs/inotify/max_user_watches":   "65536",
	} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(path, before, 0o644); err != nil {
				t.Error(err)
			}
		})
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
