// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	kubelet "k8s.io/component-helpers/node/util/sysctl"

	"slipway.dev/slipway/internal/roottest"
)

// kernelDefaults are values that no node is content with.
var kernelDefaults = map[string]string{
	"vm/overcommit_memory": "0", "kernel/panic": "0", "kernel/panic_on_oops": "0",
	"fs/inotify/max_user_instances": "128", "fs/inotify/max_user_watches": "8192",
}

// freshMachine gives the kernel its defaults until the test ends, and returns the
// path of a record of settings.
func freshMachine(t *testing.T) string {
	t.Helper()
	roottest.Require(t)
	for _, s := range machineWide {
		before, err := readSysctl(s.key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := writeSysctl(s.key, before); err != nil {
				t.Error(err)
			}
		})
		if value, ok := kernelDefaults[s.key]; ok {
			setSysctl(t, s.key, value)
		}
	}
	return filepath.Join(t.TempDir(), "settings.json")
}

func setSysctl(t *testing.T, key, value string) {
	t.Helper()
	if err := writeSysctl(key, value); err != nil {
		t.Fatal(err)
	}
}

// newHolder is a node's file.
func newHolder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hold(t *testing.T, record, holder string) {
	t.Helper()
	if err := holdSettings(record, holder); err != nil {
		t.Fatal(err)
	}
}

func release(t *testing.T, record, holder string) {
	t.Helper()
	if err := releaseSettings(record, holder); err != nil {
		t.Fatal(err)
	}
}

func wantForNodes(t *testing.T) {
	t.Helper()
	for _, s := range machineWide {
		if now, err := readSysctl(s.key); err != nil || !s.met(now) {
			t.Errorf("%s is %s (%v), expected %s for nodes", s.key, now, err, s.value)
		}
	}
}

func wantSysctl(t *testing.T, key, want string) {
	t.Helper()
	if now, err := readSysctl(key); err != nil || now != want {
		t.Errorf("%s is %s (%v), expected %s", key, now, err, want)
	}
}

func wantDefaults(t *testing.T) {
	t.Helper()
	for key, value := range kernelDefaults {
		wantSysctl(t, key, value)
	}
}

// A node that ends takes nothing away from another of the same machine, and the
// last one leaves the machine as it was.
func TestRootSettingsOfTwoNodes(t *testing.T) {
	record := freshMachine(t)
	one, two := newHolder(t), newHolder(t)
	hold(t, record, one)
	hold(t, record, two)
	hold(t, record, two) // It starts again.
	release(t, record, one)
	wantForNodes(t)
	release(t, record, two)
	wantDefaults(t)
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there (%v)", err)
	}
	release(t, record, two)
	wantDefaults(t)
}

// A node whose data was deleted by hand holds nothing.
func TestRootSettingsOfDeletedNode(t *testing.T) {
	record := freshMachine(t)
	deleted, other := newHolder(t), newHolder(t)
	hold(t, record, deleted)
	hold(t, record, other)
	if err := os.Remove(deleted); err != nil {
		t.Fatal(err)
	}
	release(t, record, other)
	wantDefaults(t)
}

// What the user sets while a node runs is newer than what the node has noted.
func TestRootSettingsChangedMeanwhile(t *testing.T) {
	const stays, restarted = "kernel/panic", "fs/inotify/max_user_instances"
	record := freshMachine(t)
	holder := newHolder(t)
	hold(t, record, holder)
	setSysctl(t, restarted, "256")
	hold(t, record, holder)
	wantForNodes(t)
	setSysctl(t, stays, "30")
	release(t, record, holder)
	wantSysctl(t, stays, "30")
	wantSysctl(t, restarted, "256")
}

// A boot takes all settings back by itself. What an older record says of them is
// not written into the kernel.
func TestRootSettingsAfterReboot(t *testing.T) {
	record := freshMachine(t)
	holder := newHolder(t)
	old := `{"boot": "an older one", "changes": {"kernel/panic": {"before": "77", "set": "10"}}, "holders": [` + strconv.Quote(holder) + `]}`
	if err := os.WriteFile(record, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	hold(t, record, holder)
	wantForNodes(t)
	release(t, record, holder)
	wantDefaults(t)
}

// A node that was killed between its note and the change has changed nothing.
func TestRootSettingsKilledHalfway(t *testing.T) {
	record := freshMachine(t)
	holder := newHolder(t)
	killed := errors.New("killed")
	err := withShared(record, func(s *shared, save func() error) error {
		s.Holders = append(s.Holders, holder)
		return s.Changes.set(machineWide, func() error { return errors.Join(save(), killed) })
	})
	if !errors.Is(err, killed) {
		t.Fatal(err)
	}
	setSysctl(t, "vm/overcommit_memory", "2")
	release(t, record, holder)
	wantSysctl(t, "vm/overcommit_memory", "2")
}

func TestRootJournalRestoresSettings(t *testing.T) {
	freshMachine(t)
	path := filepath.Join(t.TempDir(), "host.json")
	roottest.In(t, roottest.NetNS(t), func() error {
		if err := openJournal(t, path).SetSysctls(); err != nil {
			return err
		}
		wantSysctl(t, "net/ipv4/ip_forward", "1")
		wantForNodes(t)
		// The user wants it, too.
		setSysctl(t, "net/ipv6/conf/all/forwarding", "2")
		if err := openJournal(t, path).Revert(); err != nil {
			return err
		}
		wantSysctl(t, "net/ipv4/ip_forward", "0")
		wantSysctl(t, "net/ipv6/conf/all/forwarding", "2")
		return nil
	})
	wantDefaults(t)
}

func TestBrokenSettingsAreAnError(t *testing.T) {
	record := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := releaseSettings(record, "/holder"); err == nil {
		t.Error("no error for a record that cannot be read")
	}
}

// The kubelet changes what it does not like, and notes nothing.
func TestSettingsAreTheKubelets(t *testing.T) {
	have := map[string]string{}
	for _, s := range machineWide {
		if !s.atLeast {
			have[s.key] = s.value
		}
	}
	for key, value := range map[string]int{
		kubelet.VMOvercommitMemory: kubelet.VMOvercommitMemoryAlways,
		kubelet.VMPanicOnOOM:       kubelet.VMPanicOnOOMInvokeOOMKiller,
		kubelet.KernelPanic:        kubelet.KernelPanicRebootTimeout,
		kubelet.KernelPanicOnOops:  kubelet.KernelPanicOnOopsAlways,
		kubelet.RootMaxKeys:        kubelet.RootMaxKeysSetting,
		kubelet.RootMaxBytes:       kubelet.RootMaxBytesSetting,
	} {
		if want := strconv.Itoa(value); have[key] != want {
			t.Errorf("%s is set to %q, the kubelet wants %s", key, have[key], want)
		}
	}
}
