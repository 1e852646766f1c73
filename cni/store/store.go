// SPDX-License-Identifier: Apache-2.0

// Package store keeps the attachments of a node on disk, one JSON file each.
// It owns that directory. A record is written before the kernel is changed
// and removed after that is undone, so whatever exists in the kernel has a
// record, however the agent ended. Different records may be written from
// several goroutines; two writers of one record exclude each other.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"slipway.dev/slipway/internal/atomicfile"
)

// version is that of the file format.
const version = 1

const (
	suffix        = ".json"
	corruptSuffix = ".corrupt"
)

// Key names an attachment: an interface of a container, as in the CNI
// specification.
type Key struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Digest is a hash of the key, hexadecimal: what files and devices are named
// by, because a container id can be long.
func (k Key) Digest() string {
	sum := sha256.Sum256([]byte(k.ContainerID + "/" + k.IfName))
	return hex.EncodeToString(sum[:16])
}

func (k Key) String() string { return k.ContainerID + "/" + k.IfName }

// Record is one attachment.
type Record struct {
	Version int `json:"version"`
	Key
	// Network is the name in the network configuration.
	Network string `json:"network"`
	// NetNS is the path that the runtime gave; it may not exist any more.
	NetNS string `json:"netns"`
	// Namespace, Pod and PodUID name the pod, if the runtime told.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	PodUID    string `json:"podUID,omitempty"`
	// HostName is the name of the pod interface.
	HostName string `json:"hostName"`
	HostMAC  MAC    `json:"hostMAC"`
	PodMAC   MAC    `json:"podMAC"`
	// Addrs are the pod's addresses, Gateways the node's, pairwise.
	Addrs    []netip.Addr `json:"addresses"`
	Gateways []netip.Addr `json:"gateways"`
	MTU      int          `json:"mtu"`
}

// MAC is an Ethernet address that is written as text.
type MAC [6]byte

// Hardware returns the address in the form of package net.
func (m MAC) Hardware() net.HardwareAddr { return m[:] }

// MarshalText is that of encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.Hardware().String()), nil }

// UnmarshalText is that of encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(text []byte) error {
	addr, err := net.ParseMAC(string(text))
	if err != nil {
		return err
	}
	if len(addr) != len(m) {
		return fmt.Errorf("%s is not an Ethernet address", text)
	}
	copy(m[:], addr)
	return nil
}

// Store is a directory of records.
type Store struct{ dir string }

// Open returns the store in a directory, which it makes if need be.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open attachment store: %w", err)
	}
	return &Store{dir: dir}, nil
}

func (s *Store) path(key Key) string { return filepath.Join(s.dir, key.Digest()+suffix) }

// Save writes a record so that it survives a crash and a loss of power.
func (s *Store) Save(r Record) error {
	r.Version = version
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("save attachment %s: %w", r.Key, err)
	}
	if err := atomicfile.Write(s.path(r.Key), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save attachment %s: %w", r.Key, err)
	}
	return nil
}

// Delete removes a record, if there is one. It is not synced to disk: a loss
// of power takes the devices too, and a record without them means nothing.
func (s *Store) Delete(key Key) error {
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete attachment %s: %w", key, err)
	}
	return nil
}

// Load returns all records, and sets those aside that cannot be read: their
// files get another name, and the errors say why. It also removes what a
// crash within Save left.
func (s *Store) Load() (records []Record, corrupt []error, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("load attachments: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(s.dir, name)
		if strings.HasPrefix(name, ".") && strings.Contains(name, suffix+".") {
			if err := os.Remove(path); err != nil {
				return nil, nil, fmt.Errorf("load attachments: %w", err)
			}
		}
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, suffix) {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("load attachments: %w", err)
		}
		record, reason := decode(strings.TrimSuffix(name, suffix), data)
		if reason == nil {
			records = append(records, record)
			continue
		}
		if err := os.Rename(path, path+corruptSuffix); err != nil {
			return nil, nil, fmt.Errorf("set corrupt attachment aside: %w", err)
		}
		corrupt = append(corrupt, fmt.Errorf("attachment file %s set aside: %w", path+corruptSuffix, reason))
	}
	return records, corrupt, nil
}

// decode reads a record from a file and checks all that others rely on.
func decode(digest string, data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, err
	}
	switch {
	case r.Version != version:
		return Record{}, fmt.Errorf("version %d is not known", r.Version)
	case r.Digest() != digest:
		return Record{}, errors.New("content does not belong to this file name")
	case r.HostName == "" || len(r.HostName) > 15 || strings.ContainsAny(r.HostName, "/ "):
		return Record{}, fmt.Errorf("pod interface name %q is not valid", r.HostName)
	case len(r.Addrs) == 0 || len(r.Addrs) != len(r.Gateways):
		return Record{}, fmt.Errorf("%d addresses with %d gateways", len(r.Addrs), len(r.Gateways))
	}
	for i, addr := range r.Addrs {
		if !addr.IsValid() || addr.Is4() != r.Gateways[i].Is4() {
			return Record{}, fmt.Errorf("address %s with gateway %s", addr, r.Gateways[i])
		}
	}
	return r, nil
}
