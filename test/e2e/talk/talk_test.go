// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve runs a server on loopback and returns all ways to talk to it.
func serve(t *testing.T, ctx context.Context, name string) []Target {
	t.Helper()
	server, err := Listen(name, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	web, echo := server.web.Addr().String(), server.stream.Addr().String()
	return []Target{{HTTP, web}, {TCP, echo}, {UDP, echo}, {Datagram, echo}}
}

func TestAsk(t *testing.T) {
	targets := serve(t, t.Context(), "one")
	loopback := netip.MustParseAddr("127.0.0.1")
	for i, got := range Ask(targets, 3) {
		want := Answers{
			Target: targets[i].String(), Names: map[string]int{"one": 3},
			Peers: []netip.Addr{loopback}, Froms: []netip.AddrPort{netip.MustParseAddrPort(targets[i].Addr)},
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLoadCounts(t *testing.T) {
	targets := serve(t, t.Context(), "one")
	load := Load{Targets: targets, Workers: 2, Pause: time.Millisecond}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); load.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for enough := false; !enough; {
		if time.Now().After(deadline) {
			t.Fatalf("too slow: %v", load.Counts())
		}
		counts := load.Counts()
		enough = len(counts) == 2*len(targets)
		for _, c := range counts {
			enough = enough && c.OK >= 10
		}
	}
	stop()
	<-ended
	for name, c := range load.Counts() {
		want := c.OK
		if name[:4] == "kept" {
			want = load.Workers
		}
		if c.Failed != 0 || c.Connections != want {
			t.Errorf("%s: %+v, expected no failure and %d connections", name, c, want)
		}
	}
}

func TestLoadCountsFailures(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	targets := serve(t, ctx, "one")
	load := Load{Targets: targets[1:2], Workers: 1, Pause: time.Millisecond}
	loading, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	ended := make(chan struct{})
	go func() { defer close(ended); load.Run(loading) }()
	stop()
	for loading.Err() == nil {
		if c := load.Counts()["new "+targets[1].String()]; c.Failed > maxErrors {
			if len(c.Errors) != maxErrors {
				t.Errorf("%d error texts, want %d", len(c.Errors), maxErrors)
			}
			end()
			<-ended
			return
		}
	}
	t.Fatalf("no failure counted: %v", load.Counts())
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"tcp=10.0.0.1:80":     {TCP, "10.0.0.1:80"},
		"datagram=[::1]:9000": {Datagram, "[::1]:9000"},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "tcp", "tcp=", "sctp=h:1"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q: got %v, expected an error", text, got)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("one 127.0.0.1:80\n")
	f.Add("one [::1]:80")
	f.Fuzz(func(t *testing.T, text string) {
		reply, err := parseLine(text)
		if err != nil {
			return
		}
		again, err := parseLine(line(reply.Name, reply.Peer))
		if err != nil || again.Name != reply.Name {
			t.Errorf("%q gives %v, then %v, %v", text, reply, again, err)
		}
	})
}
