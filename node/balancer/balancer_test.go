// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"
)

const deadline = 15 * time.Second

// echo is a server that sends its name and then every line back.
type echo struct {
	net.Listener
	name string
}

func newEcho(t *testing.T, name string) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{l, name}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, name)
				io.Copy(conn, conn)
			}()
		}
	}()
	return e
}

func (e *echo) address() string { return e.Addr().String() }

func newBalancer(t *testing.T, servers ...string) *Balancer {
	t.Helper()
	b, err := Listen("127.0.0.1:0", servers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// open connects and returns the name of the server at the other end.
func open(t *testing.T, b *Balancer) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(deadline))
	reader := bufio.NewReader(conn)
	name, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return conn, reader, name[:len(name)-1]
}

func TestPassesBytesBothWays(t *testing.T) {
	b := newBalancer(t, newEcho(t, "one").address())
	conn, reader, _ := open(t, b)
	fmt.Fprintln(conn, "hello")
	if got, err := reader.ReadString('\n'); err != nil || got != "hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func TestTakesTheFirstThatAnswers(t *testing.T) {
	gone := newEcho(t, "gone")
	gone.Close()
	b := newBalancer(t, gone.address(), newEcho(t, "two").address())
	for range 3 {
		if _, _, name := open(t, b); name != "two" {
			t.Errorf("connected to %s", name)
		}
	}
}

func TestNewListIsUsed(t *testing.T) {
	one, two := newEcho(t, "one"), newEcho(t, "two")
	b := newBalancer(t, one.address())
	b.SetServers(nil)
	if !slices.Equal(b.Servers(), []string{one.address()}) {
		t.Errorf("an empty list was taken: %v", b.Servers())
	}
	b.SetServers([]string{two.address()})
	if _, _, name := open(t, b); name != "two" {
		t.Errorf("connected to %s", name)
	}
}

// A server that is gone without a word keeps its connections open; only the
// check finds out.
func TestConnectionsOfAServerThatIsGoneAreClosed(t *testing.T) {
	one, two := newEcho(t, "one"), newEcho(t, "two")
	b := newBalancer(t, one.address(), two.address())
	_, reader, name := open(t, b)
	if name != "one" {
		t.Fatalf("connected to %s", name)
	}
	one.Close()
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the connection ended with %v, expected the end of file", err)
	}
	if _, _, name := open(t, b); name != "two" {
		t.Errorf("connected to %s afterwards", name)
	}
}
