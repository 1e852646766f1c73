// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// serverPort is the first of those that servers listen on, one for each
	// Service that traffic goes to.
	serverPort = 8080
	backlog    = 4096
	// drain is the first byte of a connection whose bytes are only counted;
	// every other byte is answered with the name of the server.
	drain = 'd'
	ask   = 'a'
	// block is how much is read and written at once.
	block = 128 << 10
	// firstFD is the first descriptor that a process is given besides the
	// standard ones.
	firstFD = 3
)

// server answers for all server pods of a node: one thread, one epoll set.
type server struct {
	epoll int
	buf   []byte
	// names are those of the listeners and of their connections, by
	// descriptor.
	names     [4096]byte
	listeners [4096]bool
	draining  [4096]bool
}

// serve listens in each namespace that was given as a descriptor. It says so
// when it does, and never returns without an error.
func serve(count int) error {
	runtime.LockOSThread()
	s := &server{buf: make([]byte, block)}
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i := range count {
		if err := netns.Set(netns.NsHandle(firstFD + i)); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		for port := range mostTargets {
			if err := s.listen(serverName(i), serverPort+port); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		}
	}
	pin(1)
	fmt.Println("serving")
	return s.loop()
}

// serverName is what a server answers.
func serverName(index int) byte { return byte('A' + index) }

func (s *server) listen(name byte, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	s.names[fd], s.listeners[fd] = name, true
	return s.watch(fd)
}

func (s *server) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (s *server) loop() error {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, event := range events[:max(n, 0)] {
			fd := int(event.Fd)
			if s.listeners[fd] {
				s.accept(fd)
			} else {
				s.answer(fd)
			}
		}
	}
}

func (s *server) accept(listener int) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	if fd >= len(s.names) || s.watch(fd) != nil {
		_ = unix.Close(fd)
		return
	}
	s.names[fd], s.draining[fd] = s.names[listener], false
}

func (s *server) answer(fd int) {
	n, err := unix.Read(fd, s.buf)
	if err == unix.EAGAIN {
		return
	}
	if n <= 0 {
		_ = unix.Close(fd)
		return
	}
	if s.buf[0] == drain {
		s.draining[fd] = true
	}
	if s.draining[fd] {
		return
	}
	s.buf[0] = s.names[fd]
	if _, err := unix.Write(fd, s.buf[:1]); err != nil {
		_ = unix.Close(fd)
	}
}

// pin keeps this process on one processor, if there are several: where the
// scheduler moves a process to differs from run to run.
func pin(cpu int) {
	var set unix.CPUSet
	if runtime.NumCPU() > cpu {
		set.Set(cpu)
		_ = unix.SchedSetaffinity(0, &set)
	}
}
