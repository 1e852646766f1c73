// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience is how long an answer may take.
	patience = 3 * time.Second
	// keptEvery and newEvery are the pauses of a kept flow and between new
	// connections.
	keptEvery, newEvery = 20 * time.Millisecond, 40 * time.Millisecond
)

// target is an address of a Service, with the names of those that may answer.
type target struct {
	Name, Network, Address string
	Backends               []string
}

// tally counts exchanges. Wrong are answers of someone else than expected.
type tally struct {
	Good, Failed, Wrong int
	// Why are the first failures.
	Why []string
}

func (t *tally) add(other tally) {
	t.Good += other.Good
	t.Failed += other.Failed
	t.Wrong += other.Wrong
	t.Why = append(t.Why, other.Why...)
	t.Why = t.Why[:min(len(t.Why), 5)]
}

// tallies are those of kept flows by when they began, and of new connections.
type tallies struct {
	Kept map[string]*tally
	New  tally
}

// worker is a process that talks to targets, in the network namespace and cgroup
// that it was started in.
type worker struct {
	targets []target
	flows   sync.WaitGroup
	ended   atomic.Bool
	mu      sync.Mutex
	counts  tallies
}

// work obeys the lines of its input: "open WHEN" opens a flow to each target and
// keeps it, "new" begins to make new connections all the time, "stop" ends all of
// them, "count" prints the counts since the last time. Each is answered with a line.
func work() error {
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	w := &worker{counts: tallies{Kept: map[string]*tally{}}}
	if err := json.Unmarshal(in.Bytes(), &w.targets); err != nil {
		return err
	}
	for in.Scan() {
		command, when, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "open":
			fmt.Println(w.open(when))
		case "new":
			for _, t := range w.targets {
				w.flows.Go(func() { w.renew(t) })
			}
			fmt.Println("ok")
		case "stop":
			w.ended.Store(true)
			w.flows.Wait()
			fmt.Println("ok")
		case "count":
			out, err := json.Marshal(w.take())
			if err != nil {
				return err
			}
			fmt.Println(string(out))
		}
	}
	return in.Err()
}

func (w *worker) take() tallies {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := w.counts
	w.counts = tallies{Kept: map[string]*tally{}}
	for when := range counts.Kept {
		w.counts.Kept[when] = &tally{}
	}
	return counts
}

// open returns "ok" when all flows have begun, or what is wrong.
func (w *worker) open(when string) string {
	w.mu.Lock()
	w.counts.Kept[when] = &tally{}
	w.mu.Unlock()
	for _, t := range w.targets {
		conn, by, err := t.begin()
		if err != nil {
			return fmt.Sprintf("%s: %v", t.Name, err)
		}
		w.flows.Go(func() { w.keep(t, when, conn, by) })
	}
	return "ok"
}

// begin connects and asks once; by is who has answered.
func (t target) begin() (conn net.Conn, by string, err error) {
	if conn, err = net.DialTimeout(t.Network, t.Address, patience); err != nil {
		return nil, "", err
	}
	if by, err = ask(conn, 0); err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, by, nil
}

// keep asks the same backend all the time, until the flow fails.
func (w *worker) keep(t target, when string, conn net.Conn, by string) {
	defer conn.Close()
	for n := 1; !w.ended.Load(); n++ {
		time.Sleep(keptEvery)
		got, err := ask(conn, n)
		w.count(t, err, got == by, func(c *tallies) *tally { return c.Kept[when] })
		if err != nil && t.Network == "tcp" {
			return
		}
	}
}

func (w *worker) renew(t target) {
	for !w.ended.Load() {
		start := time.Now()
		conn, by, err := t.begin()
		if err != nil {
			err = fmt.Errorf("%w (begun at %s)", err, start.Format("05.000"))
		}
		if err == nil {
			conn.Close()
		}
		w.count(t, err, slices.Contains(t.Backends, by), func(c *tallies) *tally { return &c.New })
		time.Sleep(newEvery)
	}
}

func (w *worker) count(t target, err error, right bool, of func(*tallies) *tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := of(&w.counts)
	switch {
	case err != nil:
		c.add(tally{Failed: 1, Why: []string{t.Name + ": " + err.Error()}})
	case !right:
		c.add(tally{Wrong: 1, Why: []string{t.Name + ": another backend answers"}})
	default:
		c.Good++
	}
}

// ask sends a number and returns who has sent it back.
func ask(conn net.Conn, n int) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return "", err
		}
		name, number, _ := strings.Cut(strings.TrimSpace(string(buf[:size])), " ")
		if number == fmt.Sprint(n) {
			return name, nil
		}
		// A datagram that was given up before.
	}
}
