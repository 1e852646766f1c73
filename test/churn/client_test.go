// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// How a client talks to a frontend. The kept ones ask until they are told to
// stop.
const (
	asTCP, asUDP, asDatagrams = "tcp", "udp", "datagrams"
	keptTCP, keptUDP          = "kept-tcp", "kept-udp"
)

const (
	// patience is how long a client waits for an answer.
	patience = 4 * time.Second
	// keptPause is between two requests on a kept connection.
	keptPause = 50 * time.Millisecond
	// slowEach is how many requests there are for each slow one.
	slowEach = 100
)

// result is what came of talking to a frontend.
type result struct {
	id         int
	start, end time.Time
	// from is who has answered; the zero value when there was an error.
	from netip.AddrPort
	// asked is how often.
	asked int
	err   string
}

// client is a process that talks to frontends, several at once.
type client struct {
	name string
	in   io.WriteCloser

	mu      sync.Mutex
	next    int
	waiting map[int]chan result
}

// startClient starts one in a namespace, and in a cgroup unless that is "".
func startClient(t *testing.T, name string, ns netns.NsHandle, cgroup string) *client {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "client")
	cmd.Stderr = os.Stderr
	if cgroup != "" {
		group, err := os.Open(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer group.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	roottest.In(t, ns, cmd.Start)
	c := &client{name: name, in: in, waiting: map[int]chan result{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.listen(out)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	return c
}

// do has the process talk to a frontend; the result comes later.
func (c *client) do(how string, to netip.AddrPort) <-chan result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	done := make(chan result, 1)
	c.waiting[c.next] = done
	if _, err := fmt.Fprintln(c.in, c.next, how, to); err != nil {
		delete(c.waiting, c.next)
		close(done)
	}
	return done
}

// stop ends the kept connections; their results come then.
func (c *client) stop() { c.in.Close() }

func (c *client) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		r := parseResult(lines.Text())
		c.mu.Lock()
		done := c.waiting[r.id]
		delete(c.waiting, r.id)
		c.mu.Unlock()
		if done != nil {
			done <- r
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, done := range c.waiting {
		close(done)
	}
	c.waiting = nil
}

func (r result) String() string {
	from := "-"
	if r.from.IsValid() {
		from = r.from.String()
	}
	return fmt.Sprintf("%d %d %d %d %s %s", r.id, r.start.UnixNano(), r.end.UnixNano(), r.asked, from, r.err)
}

func parseResult(line string) result {
	parts := strings.SplitN(line, " ", 6)
	if len(parts) != 6 {
		return result{err: "client says " + line}
	}
	var r result
	var start, end int64
	if _, err := fmt.Sscan(strings.Join(parts[:4], " "), &r.id, &start, &end, &r.asked); err != nil {
		return result{err: "client says " + line}
	}
	r.start, r.end, r.err = time.Unix(0, start), time.Unix(0, end), parts[5]
	r.from, _ = netip.ParseAddrPort(parts[4])
	return r
}

// runClient is the process: it reads what to do line by line.
func runClient(in io.Reader, out io.Writer) {
	stop := make(chan struct{})
	var mu sync.Mutex
	var tasks sync.WaitGroup
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var id int
		var how, to string
		if _, err := fmt.Sscan(lines.Text(), &id, &how, &to); err != nil {
			continue
		}
		tasks.Go(func() {
			r := talk(how, netip.MustParseAddrPort(to), token(id, how), stop)
			r.id = id
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(out, r)
		})
	}
	close(stop)
	tasks.Wait()
}

// token is what is asked: answers to some take long.
func token(id int, how string) string {
	out := fmt.Sprint(id)
	if how == asTCP {
		out += bye
	}
	if id%slowEach == 0 && how != keptTCP && how != keptUDP {
		out += slow
	}
	return out
}

func talk(how string, to netip.AddrPort, token string, stop <-chan struct{}) result {
	r := result{start: time.Now()}
	var err error
	switch how {
	case asTCP:
		err = r.once("tcp", to, token)
	case asUDP:
		err = r.once("udp", to, token)
	case asDatagrams:
		err = r.unconnected(to, token)
	case keptTCP:
		err = r.keep("tcp", to, token, stop)
	case keptUDP:
		err = r.keep("udp", to, token, stop)
	}
	r.end = time.Now()
	if err != nil {
		r.err = reason(err)
	}
	return r
}

// reason is the innermost error.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// once asks on a connection of its own. By TCP the server hangs up first.
func (r *result) once(network string, to netip.AddrPort, token string) error {
	conn, err := net.DialTimeout(network, to.String(), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	if err := r.ask(conn, lines, token); err != nil || network != "tcp" {
		return err
	}
	_, _ = lines.ReadByte()
	return nil
}

// ask sends a token and reads the answer.
func (r *result) ask(conn net.Conn, lines *bufio.Reader, token string) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, token+"\n"); err != nil {
		return err
	}
	line, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	return r.read(line, token)
}

func (r *result) read(line, token string) error {
	text, from, _ := strings.Cut(strings.TrimSpace(line), " ")
	addr, err := netip.ParseAddrPort(from)
	if err != nil || text != token {
		return fmt.Errorf("the answer to %s is %q", token, line)
	}
	if r.from.IsValid() && r.from != addr {
		return fmt.Errorf("another backend: %s, then %s", r.from, addr)
	}
	r.from, r.asked = addr, r.asked+1
	return nil
}

// unconnected asks by a datagram of a socket that is not connected.
func (r *result) unconnected(to netip.AddrPort, token string) error {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.WriteToUDPAddrPort([]byte(token+"\n"), to); err != nil {
		return err
	}
	buf := make([]byte, 256)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); from != to {
		return fmt.Errorf("the answer comes from %s, not from %s", from, to)
	}
	return r.read(string(buf[:n]), token)
}

// keep asks again and again on one connection.
func (r *result) keep(network string, to netip.AddrPort, token string, stop <-chan struct{}) error {
	conn, err := net.DialTimeout(network, to.String(), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	lines, pause := bufio.NewReader(conn), time.NewTicker(keptPause)
	defer pause.Stop()
	for {
		if err := r.ask(conn, lines, token); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-pause.C:
		}
	}
}
