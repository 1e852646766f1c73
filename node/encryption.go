// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"slipway.dev/slipway/internal/atomicfile"
)

// encryptionFile is the EncryptionConfiguration of the API server, with the
// key that Secrets are encrypted with in etcd.
const encryptionFile = "encryption.json"

// ensureEncryption makes the key when there is none. What is stored without
// encryption can still be read, and is encrypted when it is written again.
func ensureEncryption(dir string) error {
	path := filepath.Join(dir, encryptionFile)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make encryption key: %w", err)
	}
	type object = map[string]any
	data, err := json.MarshalIndent(object{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
		"resources": []object{{
			"resources": []string{"secrets"},
			"providers": []object{
				{"secretbox": object{"keys": []object{{"name": "key1", "secret": base64.StdEncoding.EncodeToString(key)}}}},
				{"identity": object{}},
			},
		}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}
