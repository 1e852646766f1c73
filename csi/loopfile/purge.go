// SPDX-License-Identifier: Apache-2.0

package loopfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Purge removes all volumes below root with their content, and nothing that
// is not of a pool. The caller has made sure that none is attached.
func Purge(root string) error {
	for _, dir := range []string{volumesDir, creatingDir, deletingDir} {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			return fmt.Errorf("purge pool: %w", err)
		}
	}
	return nil
}
