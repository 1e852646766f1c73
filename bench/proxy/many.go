// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// crew keeps a number of connections going, each of which is closed and made
// anew when its byte has come back. One thread drives all of them.
type crew struct {
	targets *targets
	epoll   int
	buf     []byte
	// asked tells by descriptor whether the byte has been sent.
	asked [4096]bool
	count int
}

// manyAtOnce is oneByOne with several connections at a time.
func manyAtOnce(t *targets, clients int, took time.Duration) (loaded, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return loaded{}, err
	}
	defer unix.Close(epoll)
	c := &crew{targets: t, epoll: epoll, buf: make([]byte, 1)}
	for range clients {
		if err := c.open(); err != nil {
			return loaded{}, err
		}
	}
	events := make([]unix.EpollEvent, clients)
	begin := time.Now()
	for time.Since(begin) < took {
		n, err := unix.EpollWait(epoll, events, int(patience.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return loaded{}, fmt.Errorf("epoll_wait: %w", err)
		}
		if n == 0 {
			return loaded{}, fmt.Errorf("no connection has gone on for %v", patience)
		}
		for _, event := range events[:n] {
			if err := c.advance(int(event.Fd)); err != nil {
				return loaded{}, err
			}
		}
	}
	return loaded{Rate: float64(c.count) / time.Since(begin).Seconds()}, nil
}

func (c *crew) open() error {
	fd, err := socket(unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	if fd >= len(c.asked) {
		return errors.New("too many descriptors are open")
	}
	if err := unix.Connect(fd, c.targets.take()); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	c.asked[fd] = false
	// Told once when it is connected, and once when the answer has come.
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd),
	})
}

// advance takes the next step of a connection.
func (c *crew) advance(fd int) error {
	if !c.asked[fd] {
		c.buf[0] = ask
		if _, err := unix.Write(fd, c.buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		c.asked[fd] = true
		return nil
	}
	n, err := unix.Read(fd, c.buf)
	if err == unix.EAGAIN {
		return nil
	}
	if err == nil && n == 0 {
		err = errors.New("the server hung up")
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	c.count++
	if err := unix.Close(fd); err != nil {
		return err
	}
	return c.open()
}
