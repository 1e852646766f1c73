// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// namespaces starts a process in each of n network namespaces, and returns the
// cookies of these.
func namespaces(b *testing.B, n int) []uint64 {
	b.Helper()
	var cookies []uint64
	for range n {
		cmd := exec.Command("sleep", "1000")
		roottest.In(b, roottest.NetNS(b), func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
			cookies = append(cookies, cookie)
			if err != nil {
				return err
			}
			return cmd.Start()
		})
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	return cookies
}

// BenchmarkRootCloseStale looks for sockets in some of 100 namespaces. None is
// there any more, as when short connections have left their entries.
func BenchmarkRootCloseStale(b *testing.B) {
	cookies := namespaces(b, 100)
	for name, bb := range map[string]struct {
		protocol         bpf.Protocol
		sockets, clients int
		stale            bool
	}{
		"TCP in 1 of 100":   {bpf.ProtocolTCP, 1, 1, true},
		"TCP in 100 of 100": {bpf.ProtocolTCP, 100, 100, true},
		"UDP in 1 of 100":   {bpf.ProtocolUDP, 1, 1, true},
		"UDP in 100 of 100": {bpf.ProtocolUDP, 100, 100, true},
		"none":              {bpf.ProtocolTCP, 1000, 100, false},
		"none of 65536":     {bpf.ProtocolTCP, 65536, 100, false},
	} {
		b.Run(name, func(b *testing.B) {
			pins := bpffs(b)
			d := openDatapath(b, pins)
			reverses, err := ebpf.LoadPinnedMap(filepath.Join(pins, "maps", "reverses"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer reverses.Close()
			for b.Loop() {
				b.StopTimer()
				for i := range bb.sockets {
					// As struct reverse_key and struct reverse have them.
					var key, value [32]byte
					binary.NativeEndian.PutUint64(key[:], uint64(i))
					value[18] = byte(bb.protocol)
					binary.NativeEndian.PutUint64(value[24:], cookies[i%bb.clients])
					if err := reverses.Put(key, value); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if _, err := d.CloseStale(func(bpf.Use) bool { return bb.stale }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
