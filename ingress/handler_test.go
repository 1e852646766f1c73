// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// site serves one host from the given upstream servers.
type site struct {
	h  *handler
	at *httptest.Server
}

func newSite(t *testing.T, endpoints ...netip.AddrPort) *site {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{h: newHandler(m, slog.New(slog.DiscardHandler))}
	s.point(endpoints...)
	s.at = httptest.NewServer(s.h)
	t.Cleanup(s.at.Close)
	return s
}

// point swaps the table.
func (s *site) point(endpoints ...netip.AddrPort) {
	t := &Table{hosts: map[string]*routes{"h": {}}}
	t.hosts["h"].add("/", false, &Backend{Service: "a/web:80", Endpoints: endpoints})
	s.h.table.Store(t)
}

func (s *site) get(t *testing.T, host, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.at.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := s.at.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func upstream(t *testing.T, serve http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }
}

// dead is an address where nobody listens.
func dead(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestAnswersWithoutABackend(t *testing.T) {
	s := newSite(t)
	if code, body := s.get(t, "other", "/"); code != 404 || !strings.Contains(body, "default backend - 404") {
		t.Errorf("unknown host: %d %q", code, body)
	}
	if code, _ := s.get(t, "h", "/"); code != 503 {
		t.Errorf("no endpoints: %d", code)
	}
	s.point(dead(t))
	if code, _ := s.get(t, "h", "/"); code != 502 {
		t.Errorf("dead endpoint: %d", code)
	}
}

func TestSpreadsEvenlyAndAcrossTables(t *testing.T) {
	a, b, c := upstream(t, named("a")), upstream(t, named("b")), upstream(t, named("c"))
	s := newSite(t, a, b, c)
	seen := map[string]int{}
	for i := range 30 {
		if i%7 == 0 {
			s.point(a, b, c)
		}
		_, body := s.get(t, "h", "/")
		seen[body]++
	}
	for name, n := range seen {
		if n != 10 {
			t.Errorf("%s got %d of 30 requests", name, n)
		}
	}
}

func TestTriesTheNextEndpoint(t *testing.T) {
	s := newSite(t, dead(t), upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), dead(t))
	for range 6 {
		req, err := http.NewRequest(http.MethodPost, s.at.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "h"
		resp, err := s.at.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(body) != "body" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
}

func TestForwardsWhoAsked(t *testing.T) {
	got := make(chan *http.Request, 1)
	s := newSite(t, upstream(t, func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	req, err := http.NewRequest(http.MethodGet, s.at.URL+"/a%2Fb?x=%zz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "h"
	req.Header.Set("X-Forwarded-For", "198.51.100.9")
	req.Header.Set("Connection", "X-Secret")
	req.Header.Set("X-Secret", "1")
	resp, err := s.at.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r := <-got
	for name, want := range map[string]string{
		"X-Forwarded-For": "198.51.100.9, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "h",
		"X-Real-Ip": "127.0.0.1", "X-Secret": "",
	} {
		if have := r.Header.Get(name); have != want {
			t.Errorf("%s is %q, expected %q", name, have, want)
		}
	}
	if r.Host != "h" || r.RequestURI != "/a%2Fb?x=%zz" {
		t.Errorf("got %s %s", r.Host, r.RequestURI)
	}
}

func TestStreams(t *testing.T) {
	release := make(chan struct{})
	s := newSite(t, upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-release
		fmt.Fprintln(w, "second")
	}))
	req, err := http.NewRequest(http.MethodGet, s.at.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "h"
	resp, err := s.at.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("got %q, %v before the end of the response", line, err)
	}
	close(release)
	if line, err := lines.ReadString('\n'); err != nil || line != "second\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

func TestUpgrades(t *testing.T) {
	s := newSite(t, upstream(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := buf.ReadString('\n')
		fmt.Fprint(conn, "echo "+line)
	}))
	conn, err := net.Dial("tcp", s.at.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := reader.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestChurnLosesNothing changes the endpoints under load: those that stay
// never fail a request.
func TestChurnLosesNothing(t *testing.T) {
	stay := upstream(t, named("stay"))
	come := upstream(t, named("come"))
	s := newSite(t, stay)
	done := make(chan struct{})
	var failed, served atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if code, _ := s.get(t, "h", "/"); code != 200 {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	for i := 0; served.Load() < 3000; i++ {
		if i%2 == 0 {
			s.point(stay, come)
		} else {
			s.point(stay)
		}
		time.Sleep(time.Millisecond)
	}
	close(done)
	workers.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), served.Load())
	}
}

func TestServersSpeakHTTP2AndChooseCertificates(t *testing.T) {
	s := newSite(t, upstream(t, named("web")))
	own, err := defaultCertificate()
	if err != nil {
		t.Fatal(err)
	}
	table := s.h.table.Load()
	table.exactCerts = map[string]*tls.Certificate{"h": own}
	servers, err := newServers(Config{HTTPAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, s.h)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- servers.run(t.Context()) }()
	for name, want := range map[string]bool{"h": true, "other": false} {
		conn, err := tls.Dial("tcp", servers.tlsListener.Addr().String(), &tls.Config{
			ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		})
		if err != nil {
			t.Fatal(err)
		}
		state := conn.ConnectionState()
		conn.Close()
		if state.NegotiatedProtocol != "h2" {
			t.Errorf("%s: protocol %q", name, state.NegotiatedProtocol)
		}
		if got := string(state.PeerCertificates[0].Raw) == string(own.Certificate[0]); got != want {
			t.Errorf("%s: own certificate shown: %v, expected %v", name, got, want)
		}
	}
}

func TestPortInUseTellsWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = listen(l.Addr().String(), "--ingress-http-port")
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "--ingress-http-port") {
		t.Errorf("got %v", err)
	}
}
