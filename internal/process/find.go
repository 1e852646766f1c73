// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Find returns all processes whose command line match accepts, and that live
// in the same process namespace as this one: those of other nodes on this
// machine have the same command lines.
func Find(match func(argv []string) bool) ([]Identity, error) { return find("pid", match) }

// FindOnNetwork is as Find for processes in the network namespace of the calling
// thread, also those in containers.
func FindOnNetwork(match func(argv []string) bool) ([]Identity, error) { return find("net", match) }

func find(namespace string, match func(argv []string) bool) ([]Identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Identity
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(line) == 0 || !sameNamespace(e.Name(), namespace) || !match(strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")) {
			continue
		}
		// A process that has ended meanwhile is of no interest.
		if id, err := Identify(pid); err == nil && id.Alive() {
			found = append(found, id)
		}
	}
	return found, nil
}

// sameNamespace holds for a process that has just ended, too.
func sameNamespace(pid, namespace string) bool {
	own, err := os.Readlink("/proc/thread-self/ns/" + namespace)
	if err != nil {
		return true
	}
	theirs, err := os.Readlink("/proc/" + pid + "/ns/" + namespace)
	return err != nil || theirs == own
}
