// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// connectTimes is how often a connecter connects.
const connectTimes = 300_000

// connects is what a connecter does: it connects a UDP socket again and again, for
// which no packet is sent, and says how many nanoseconds of a processor one takes.
func connects(fd int, _ string, to unix.Sockaddr) (string, error) {
	begin, err := processorTime()
	for i := 0; i < connectTimes && err == nil; i++ {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		return "", err
	}
	end, err := processorTime()
	return strconv.FormatInt((end-begin).Nanoseconds()/connectTimes, 10), err
}

// opens is what an opener does: as a connecter, but each time with a new socket,
// which it closes again.
func opens(fd int, _ string, to unix.Sockaddr) (string, error) {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return "", err
	}
	begin, err := processorTime()
	for i := 0; i < connectTimes && err == nil; i++ {
		var fresh int
		if fresh, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = errors.Join(unix.Connect(fresh, to), unix.Close(fresh))
		}
	}
	if err != nil {
		return "", err
	}
	end, err := processorTime()
	return strconv.FormatInt((end-begin).Nanoseconds()/connectTimes, 10), err
}

func processorTime() (time.Duration, error) {
	var used unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}

// BenchmarkRootSockConnect is what the hooks cost a connect, with 10 backends.
func BenchmarkRootSockConnect(b *testing.B) {
	group := cgroup(b)
	d := openDatapath(b, bpffs(b))
	if err := d.AttachSock(group); err != nil {
		b.Fatal(err)
	}
	service := netip.MustParseAddrPort("127.0.0.9:80")
	if err := tenBackends(d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolUDP}); err != nil {
		b.Fatal(err)
	}
	direct := netip.MustParseAddrPort("127.0.0.8:80")
	for name, run := range map[string]struct {
		who, cgroup string
		to          netip.AddrPort
	}{
		"WithoutHooks": {"connecter", "", service}, "Service": {"connecter", group, service}, "Direct": {"connecter", group, direct},
		"NewSocketWithoutHooks": {"opener", "", service}, "NewSocketToService": {"opener", group, service}, "NewSocketDirect": {"opener", group, direct},
	} {
		b.Run(name, func(b *testing.B) {
			sum := 0
			for b.Loop() {
				out, err := exec.Command("/proc/self/exe", run.who, run.cgroup, "udp", run.to.String()).Output()
				if err != nil {
					b.Fatal(err)
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(out)))
				if err != nil {
					b.Fatal(err)
				}
				sum += n
			}
			b.ReportMetric(float64(sum)/float64(b.N), "ns/connect")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func tenBackends(d *bpf.Datapath, f bpf.Frontend) error {
	var ids []uint32
	for i := range uint32(10) {
		if err := d.SetBackend(i, bpf.Backend{Addr: netip.MustParseAddr("127.0.0.1"), Port: 9000 + uint16(i)}); err != nil {
			return err
		}
		ids = append(ids, i)
	}
	return errors.Join(d.SetSlots(0, ids), d.SetFrontend(f, bpf.Range{Count: 10}))
}
