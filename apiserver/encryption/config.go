// SPDX-License-Identifier: Apache-2.0

// Package encryption keeps the keys that Secrets are encrypted with in etcd,
// and changes them while the cluster runs. The keys are in one file, the
// EncryptionConfiguration of the API server, which reads it again when it
// changes. The first key writes, all of them read; what was stored before there
// were keys can be read, too.
//
// Only one process may change the file: whoever calls [Ensure] or [Rotate] has
// to see to that.
package encryption

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"slipway.dev/slipway/internal/atomicfile"
)

// keyPrefix and a number are the name of a key, which is stored with what it
// encrypts.
const keyPrefix = "key"

// keyLength is what XSalsa20 takes, in bytes.
const keyLength = 32

// Ensure makes the file with one key, unless there is a file.
func Ensure(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err := prepend(path, nil)
	return err
}

// Keys returns the names of the keys in the file; the first is the one that
// writes. There is more than one only until a rotation is finished.
func Keys(path string) ([]string, error) {
	keys, err := read(path)
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names, err
}

// ErrChanged tells that the file was changed by hand. Its keys are its owner's
// to change.
var ErrChanged = errors.New("it was changed by hand")

// read returns the keys of a file that this package has written.
func read(path string) ([]apiserverv1.Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read encryption keys: %w", err)
	}
	var have apiserverv1.EncryptionConfiguration
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&have); err != nil {
		return nil, fmt.Errorf("read encryption keys %s: %w: %w", path, ErrChanged, err)
	}
	keys := secretboxKeys(have)
	if len(keys) == 0 || !reflect.DeepEqual(have, configuration(keys)) {
		return nil, fmt.Errorf("read encryption keys %s: %w", path, ErrChanged)
	}
	return keys, nil
}

func secretboxKeys(c apiserverv1.EncryptionConfiguration) []apiserverv1.Key {
	for _, resource := range c.Resources {
		for _, provider := range resource.Providers {
			if provider.Secretbox != nil {
				return provider.Secretbox.Keys
			}
		}
	}
	return nil
}

// configuration is the content of the file with these keys.
func configuration(keys []apiserverv1.Key) apiserverv1.EncryptionConfiguration {
	return apiserverv1.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "EncryptionConfiguration"},
		Resources: []apiserverv1.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserverv1.ProviderConfiguration{
				{Secretbox: &apiserverv1.SecretboxConfiguration{Keys: keys}},
				{Identity: &apiserverv1.IdentityConfiguration{}},
			},
		}},
	}
}

// write replaces the file and returns the hash by which the API server names
// its content.
func write(path string, keys []apiserverv1.Key) (hash string, err error) {
	data, err := json.MarshalIndent(configuration(keys), "", "  ")
	if err != nil {
		return "", err
	}
	data = append(data, '\n')
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data)), atomicfile.Write(path, data, 0o600)
}

// prepend writes a new key before those that there are.
func prepend(path string, keys []apiserverv1.Key) ([]apiserverv1.Key, error) {
	secret := make([]byte, keyLength)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make encryption key: %w", err)
	}
	made := apiserverv1.Key{Name: nextName(keys), Secret: base64.StdEncoding.EncodeToString(secret)}
	keys = slices.Insert(slices.Clone(keys), 0, made)
	_, err := write(path, keys)
	return keys, err
}

// nextName is a name that none of the keys has or had.
func nextName(keys []apiserverv1.Key) string {
	highest := 0
	for _, k := range keys {
		if n, err := strconv.Atoi(strings.TrimPrefix(k.Name, keyPrefix)); err == nil {
			highest = max(highest, n)
		}
	}
	return keyPrefix + strconv.Itoa(highest+1)
}
