// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bench/report"
)

// load is what a client process is to do.
type load struct {
	Kind string
	// To are the addresses that it goes to in turn.
	To []netip.AddrPort
	// Clients is how many connections are made at the same time.
	Clients int
	For     time.Duration
}

// The kinds of load.
const (
	short  = "short"
	kept   = "kept"
	stream = "stream"
)

// loaded is what a client has measured.
type loaded struct {
	// Rate is connections or bytes in a second.
	Rate float64
	// Median and Tail, the 99th percentile, are of the time from a request to
	// its answer, microseconds.
	Median, Tail float64
}

// patience is how long a client waits for anything before it gives up.
const patience = 3 * time.Second

// put does the load, on one thread.
func put(l load) (loaded, error) {
	runtime.LockOSThread()
	pin(0)
	t := newTargets(l.To)
	switch l.Kind {
	case short:
		if l.Clients == 1 {
			return oneByOne(t, l.For)
		}
		return manyAtOnce(t, l.Clients, l.For)
	case kept:
		return requests(t, l.For)
	case stream:
		return push(t, l.For)
	}
	return loaded{}, fmt.Errorf("load %q: expected %s, %s or %s", l.Kind, short, kept, stream)
}

// targets are addresses that are taken in turn.
type targets struct {
	all  []unix.SockaddrInet4
	next int
}

func newTargets(to []netip.AddrPort) *targets {
	t := &targets{}
	for _, one := range to {
		t.all = append(t.all, unix.SockaddrInet4{Port: int(one.Port()), Addr: one.Addr().As4()})
	}
	return t
}

func (t *targets) take() *unix.SockaddrInet4 {
	t.next = (t.next + 1) % len(t.all)
	return &t.all[t.next]
}

// abort makes close send a reset, so that no port waits for two minutes.
var abort = unix.Linger{Onoff: 1}

// socket returns one that gives up in time.
func socket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return fd, err
	}
	return fd, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &abort)
}

// dial connects and waits.
func dial(to *unix.SockaddrInet4, limit time.Duration) (int, error) {
	fd, err := socket(0)
	if err != nil {
		return fd, err
	}
	timeout := unix.NsecToTimeval(int64(limit))
	// The first is for connect and write.
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	)
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fd, fmt.Errorf("connect to %v port %d: %w", to.Addr, to.Port, err)
	}
	return fd, nil
}

// exchange sends one byte and returns the answer.
func exchange(fd int, buf []byte) (byte, error) {
	buf[0] = ask
	if _, err := unix.Write(fd, buf[:1]); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	n, err := unix.Read(fd, buf[:1])
	if err == nil && n == 0 {
		err = errors.New("the server hung up")
	}
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	return buf[0], nil
}

// oneByOne makes connections one after the other: connect, a byte each way,
// close.
func oneByOne(t *targets, took time.Duration) (loaded, error) {
	buf := make([]byte, 1)
	count, begin := 0, time.Now()
	for time.Since(begin) < took {
		fd, err := dial(t.take(), patience)
		if err != nil {
			return loaded{}, err
		}
		if _, err := exchange(fd, buf); err != nil {
			return loaded{}, err
		}
		_ = unix.Close(fd)
		count++
	}
	return loaded{Rate: float64(count) / time.Since(begin).Seconds()}, nil
}

// requests asks over one connection that is kept.
func requests(t *targets, took time.Duration) (loaded, error) {
	fd, err := dial(t.take(), patience)
	if err != nil {
		return loaded{}, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 1)
	values := make([]float64, 0, 1<<20)
	for begin := time.Now(); time.Since(begin) < took && len(values) < cap(values); {
		sent := time.Now()
		if _, err := exchange(fd, buf); err != nil {
			return loaded{}, err
		}
		values = append(values, float64(time.Since(sent).Nanoseconds())/1e3)
	}
	return loaded{
		Rate:   float64(len(values)) / took.Seconds(),
		Median: report.Percentile(values, 0.5), Tail: report.Percentile(values, 0.99),
	}, nil
}

// push sends as much as it can over one connection.
func push(t *targets, took time.Duration) (loaded, error) {
	fd, err := dial(t.take(), patience)
	if err != nil {
		return loaded{}, err
	}
	defer unix.Close(fd)
	buf := make([]byte, block)
	buf[0] = drain
	sum, begin := 0, time.Now()
	for time.Since(begin) < took {
		n, err := unix.Write(fd, buf)
		if err != nil {
			return loaded{}, fmt.Errorf("write: %w", err)
		}
		sum += n
	}
	return loaded{Rate: float64(sum) / time.Since(begin).Seconds()}, nil
}
