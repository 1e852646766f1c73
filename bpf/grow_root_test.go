// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

var growing = []bpf.Table{bpf.TableFrontends, bpf.TableSlots, bpf.TableBackends}

// openSmall opens a data path as on a machine with so much memory.
func openSmall(t *testing.T, pins string, memory uint64) *bpf.Datapath {
	t.Helper()
	d, err := bpf.Open(bpf.Config{PinDir: pins, Memory: memory, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// double makes a table twice as large.
func double(t *testing.T, d *bpf.Datapath, table bpf.Table) {
	t.Helper()
	before := d.Capacity(table)
	if after, err := d.Grow(table, before+1); err != nil || after != 2*before || d.Capacity(table) != after {
		t.Fatalf("%s grew from %d to %d (%v)", table, before, after, err)
	}
}

// dial is what a dialer does: it connects again and again, and asks who is there,
// until nobody reads from it any more or one connection fails.
func dial(_ int, _ string, to unix.Sockaddr) (string, error) {
	stdin := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	for n := 0; ; n++ {
		if ended, err := unix.Poll(stdin, 0); ended > 0 || err != nil {
			return fmt.Sprint(n, " connections"), err
		}
		if err := dialOnce(to); err != nil {
			return "", fmt.Errorf("connection %d: %w", n, err)
		}
	}
}

func dialOnce(to unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Without it each would keep its port for a minute.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	got, err := exchange(fd, "tcp", to)
	if err == nil && got != "one from "+text(to) {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// dials starts a dialer in a cgroup, and returns what ends it and gives its
// report.
func dials(t *testing.T, cgroup string, to netip.AddrPort) func() string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "dialer", cgroup, "tcp", to.String())
	// Or signals of the Go runtime would interrupt system calls.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(func() string {
		in.Close()
		if err := cmd.Wait(); err != nil {
			return err.Error()
		}
		return strings.TrimSpace(out.String())
	})
	t.Cleanup(func() { stop() })
	return stop
}

// TestRootTablesGrow has all tables grow three times while clients connect: each
// connection reaches the backend, and all entries stay.
func TestRootTablesGrow(t *testing.T) {
	group, pins := cgroup(t), bpffs(t)
	// The smallest tables, so that there is much to copy for each that grows.
	d := openSmall(t, pins, 2<<30)
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	server := serve(t, "127.0.0.1", "one")
	service := netip.MustParseAddrPort("10.96.0.9:80")
	web := bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}
	publish(t, d, web, 0, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	stop := dials(t, group, service)
	want := map[bpf.Frontend]bpf.Range{web: {Count: 1, Generation: 1}}
	for round := range 3 {
		for _, table := range growing {
			double(t, d, table)
		}
		for len(want) < int(d.Capacity(bpf.TableFrontends))*3/4 {
			f := manyFrontend(len(want))
			want[f] = bpf.Range{First: d.Capacity(bpf.TableSlots) - uint32(round) - 1, Count: 1}
			if err := d.SetFrontend(f, want[f]); err != nil {
				t.Fatal(err)
			}
		}
	}
	report := stop()
	if strings.HasPrefix(report, "error") || report == "0 connections" {
		t.Errorf("while tables grew: %s", report)
	}
	t.Logf("while tables grew: %s", report)
	for name, d := range map[string]interface {
		Frontends() (map[bpf.Frontend]bpf.Range, error)
	}{"that grew": d, "that was opened again": openSmall(t, pins, 2<<30), "to look at": mustView(t, pins)} {
		if got, err := d.Frontends(); err != nil || len(got) != len(want) || got[web] != want[web] {
			t.Errorf("the data path %s has %d frontends (%v), expected %d", name, len(got), err, len(want))
		}
	}
	usage(t, d, map[string]uint32{"frontends": uint32(len(want))})
}

func mustView(t *testing.T, pins string) *bpf.View {
	t.Helper()
	v, err := bpf.OpenView(pins)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// TestRootTablesSurviveKills kills the process that writes and grows tables at
// any moment. What it has written is there, and clients connect all the time.
func TestRootTablesSurviveKills(t *testing.T) {
	group, pins := cgroup(t), bpffs(t)
	d := openSmall(t, pins, growerMemory)
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	server := serve(t, "127.0.0.1", "one")
	service := netip.MustParseAddrPort("10.96.0.9:80")
	publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}, 0, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	stop := dials(t, group, service)
	for range 12 {
		killGrower(t, pins)
		found, err := mustView(t, pins).Frontends()
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(found) - 1 {
			if _, ok := found[manyFrontend(i)]; !ok {
				t.Fatalf("of %d frontends number %d is missing", len(found), i)
			}
		}
	}
	if report := stop(); strings.HasPrefix(report, "error") || report == "0 connections" {
		t.Errorf("while tables grew: %s", report)
	}
	after := openSmall(t, pins, growerMemory)
	t.Logf("grew to %d, %d, %d", after.Capacity(growing[0]), after.Capacity(growing[1]), after.Capacity(growing[2]))
}

const (
	growerMemory = 4 << 30
	growsEvery   = 1000
	// growerFrontends are fewer than that memory has room for: who is not killed in
	// time writes the last one again and again.
	growerFrontends = 200000
)

func manyFrontend(i int) bpf.Frontend {
	return bpf.Frontend{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Port: 80}
}

// grow is what a grower does: it adds frontends one by one, and has all tables grow
// every now and then.
func grow(pins string) error {
	d, err := bpf.Open(bpf.Config{PinDir: pins, Memory: growerMemory, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	known, err := d.Frontends()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for i := len(known) - 1; err == nil; i++ {
		err = d.SetFrontend(manyFrontend(min(i, growerFrontends)), bpf.Range{Generation: uint32(i)})
		if table := growing[rand.IntN(len(growing))]; i%growsEvery == 0 && err == nil {
			_, err = d.Grow(table, d.Capacity(table)+1)
		}
		if errors.Is(err, bpf.ErrBound) {
			err = nil
		}
	}
	return err
}

// killGrower starts a grower and kills it a moment after it has begun.
func killGrower(t *testing.T, pins string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "grower", pins)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Errorf("grower: %v", err)
	}
	timer.Reset(time.Duration(rand.IntN(150)) * time.Millisecond)
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("grower: %v, expected that it is killed", err)
	}
}

// TestRootTablesEndAtTheBound fills tables on a machine with little memory.
func TestRootTablesEndAtTheBound(t *testing.T) {
	d := openSmall(t, bpffs(t), 1<<20)
	for _, table := range growing {
		size := d.Capacity(table)
		if got, err := d.Grow(table, 1<<30); !errors.Is(err, bpf.ErrBound) || got != size || !strings.Contains(err.Error(), string(table)) {
			t.Errorf("%s of %d entries grew to %d (%v)", table, size, got, err)
		}
	}
	all, err := d.Usage()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range all {
		if u.Bound < u.Capacity {
			t.Errorf("%+v: the bound is below the capacity", u)
		}
	}
}

// TestRootTablesHalfMade starts on what a process left that was killed before its
// tables had an element, and on elements of another layout.
func TestRootTablesHalfMade(t *testing.T) {
	for name, inner := range map[string]*ebpf.MapSpec{
		"no element":     nil,
		"another layout": {Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 8},
	} {
		t.Run(name, func(t *testing.T) {
			pins := bpffs(t)
			d := openDatapath(t, pins)
			publish(t, d, bpf.Frontend{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}, 0)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if err := halfMade(filepath.Join(pins, "maps", "frontends"), inner); err != nil {
				t.Fatal(err)
			}
			publish(t, openDatapath(t, pins), bpf.Frontend{Addr: netip.MustParseAddr("10.0.0.2"), Port: 80}, 0)
			if got, err := mustView(t, pins).Frontends(); err != nil || len(got) != 1 {
				t.Errorf("the data path has %v (%v), expected one frontend", got, err)
			}
		})
	}
}

// halfMade pins a table without its element, or with one of another layout.
func halfMade(pin string, inner *ebpf.MapSpec) error {
	if err := os.Remove(pin); err != nil {
		return err
	}
	element := inner
	if inner == nil {
		element = &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, ValueSize: 24, MaxEntries: 8, Flags: 1}
	}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Name: "frontends", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: element})
	if err != nil {
		return err
	}
	defer outer.Close()
	if inner != nil {
		m, err := ebpf.NewMap(inner)
		if err != nil {
			return err
		}
		defer m.Close()
		if err := outer.Put(uint32(0), m); err != nil {
			return fmt.Errorf("put element: %w", err)
		}
	}
	return outer.Pin(pin)
}
