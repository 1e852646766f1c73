// SPDX-License-Identifier: Apache-2.0

// Package host owns what a node changes on its machine outside its own
// directories: kernel settings, mounts, cgroups and directories. Each change
// is written to a journal before it is made, so that it can be taken back
// after a crash at any point. It also finds and removes what a node leaves
// running: processes in its cgroups and mounts below its directories.
package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"slipway.dev/slipway/internal/atomicfile"
)

// Journal records changes to the machine. It is not safe for concurrent use.
type Journal struct {
	path    string
	entries entries
	// settings is the record of machine-wide settings.
	settings string
}

// entries is the content of the journal file.
type entries struct {
	// Boot is the boot in which all but directories was changed; a reboot takes
	// that back by itself.
	Boot string `json:"boot"`
	// Changes are the kernel settings of this network namespace.
	Changes changes `json:"changes,omitempty"`
	// Controllers are those of cgroup v2 that were enabled at its root.
	Controllers []string `json:"controllers,omitempty"`
	// Mounts are the mount points that were made.
	Mounts []string `json:"mounts,omitempty"`
	// Dirs are directories outside the node's own that did not exist.
	Dirs []string `json:"dirs,omitempty"`
}

// OpenJournal reads the journal at path, or starts an empty one.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path, settings: settingsFile}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &j.entries)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read journal of host changes %s: %w", path, err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if j.entries.Boot != boot {
		j.entries = entries{Boot: boot, Dirs: j.entries.Dirs}
	}
	if j.entries.Changes == nil {
		j.entries.Changes = changes{}
	}
	return j, nil
}

// bootID is another one after each boot.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

func (j *Journal) save() error {
	data, err := json.MarshalIndent(j.entries, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(j.path, data, 0o600)
}

// NoteDir records that dir, when it does not exist yet, will be made by us or
// by a component that we run.
func (j *Journal) NoteDir(dir string) error {
	if _, err := os.Lstat(dir); err == nil || slices.Contains(j.entries.Dirs, dir) {
		return nil
	}
	j.entries.Dirs = append(j.entries.Dirs, dir)
	return j.save()
}

// SetSysctls brings the kernel to the settings a node needs. Those of the network
// namespace are this journal's, the machine's are shared with other nodes.
func (j *Journal) SetSysctls() error {
	if err := j.entries.Changes.set(append(acceptRA(), forwarding...), j.save); err != nil {
		return err
	}
	// There must be a file at the path by which the settings are held.
	if err := j.save(); err != nil {
		return err
	}
	return holdSettings(j.settings, j.path)
}

// Revert takes back all changes, newest first, and removes the journal. It
// goes on after an error and returns all of them.
func (j *Journal) Revert() error {
	errs := []error{j.entries.Changes.revert(), releaseSettings(j.settings, j.path)}
	j.disableControllersAt(cgroupMount)
	for _, path := range slices.Backward(j.entries.Mounts) {
		errs = append(errs, unmountIfEmpty(path))
	}
	for _, dir := range slices.Backward(j.entries.Dirs) {
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove directory: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove journal of host changes: %w", err)
	}
	return nil
}
