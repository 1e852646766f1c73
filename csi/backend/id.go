// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// maxID is the longest id: that of a DNS label, which every file system can
// hold as a file name.
const maxID = 63

// ErrBadHandle: a volume handle or id is not one that we gave out.
var ErrBadHandle = errors.New("malformed volume handle")

// ID names a volume on its node. It is one path element, never "." or "..":
// lower-case letters, digits, '-', '_' and '.', starting with a letter or a
// digit, at most 63 bytes.
type ID string

// ParseID checks that s is an id.
func ParseID(s string) (ID, error) {
	if s == "" || len(s) > maxID || !isAlnum(s[0]) {
		return "", fmt.Errorf("parse volume id %q: %w", s, ErrBadHandle)
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return "", fmt.Errorf("parse volume id %q: %w", s, ErrBadHandle)
		}
	}
	return ID(s), nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// IDFor derives the id of the volume that is asked for as name: the name
// itself where it is an id ("pvc-<uid>" is), else a hash of it. The same
// name always gives the same id.
func IDFor(name string) ID {
	if id, err := ParseID(name); err == nil {
		return id
	}
	sum := sha256.Sum256([]byte(name))
	return ID("vol-" + hex.EncodeToString(sum[:16]))
}

// Handle is a volume's id for the world: it names the node as well, because
// a volume lives on one node.
type Handle struct {
	ID   ID
	Node string
}

// String gives "<id>@<node>".
func (h Handle) String() string { return string(h.ID) + "@" + h.Node }

// ParseHandle reads what Handle.String gave. The node must look like the
// name of a Node object (RFC 1123 subdomain).
func ParseHandle(s string) (Handle, error) {
	id, node, found := strings.Cut(s, "@")
	if !found || !isNodeName(node) {
		return Handle{}, fmt.Errorf("parse volume handle %q: %w", s, ErrBadHandle)
	}
	parsed, err := ParseID(id)
	if err != nil {
		return Handle{}, fmt.Errorf("parse volume handle %q: %w", s, ErrBadHandle)
	}
	return Handle{ID: parsed, Node: node}, nil
}

func isNodeName(s string) bool {
	if s == "" || len(s) > 253 || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
