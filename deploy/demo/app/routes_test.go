// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

func start(t *testing.T) (*application, string) {
	t.Helper()
	data, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	app := &application{pod: "demo-1", data: data, log: slog.New(slog.DiscardHandler)}
	server := httptest.NewServer(app.routes())
	t.Cleanup(func() {
		server.Close()
		data.Close()
	})
	return app, server.URL
}

func send(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(content)
}

func TestFiles(t *testing.T) {
	_, base := start(t)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		reply                    string
	}{
		{"not there", "GET", "/files/a", "", 404, ""},
		{"write", "PUT", "/files/a", "one", 201, "demo-1\n"},
		{"read", "GET", "/files/a", "", 200, "one"},
		{"write again", "PUT", "/files/a", "two", 201, "demo-1\n"},
		{"read again", "GET", "/files/a", "", 200, "two"},
		{"hidden name", "PUT", "/files/.a", "x", 400, ""},
		{"name that leaves", "PUT", "/files/..%2Fa", "x", 400, ""},
		{"too large", "PUT", "/files/large", strings.Repeat("x", maxFile+1), 400, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, reply := send(t, test.method, base+test.path, test.body)
			if status != test.status || test.reply != "" && reply != test.reply {
				t.Errorf("got %d %q, want %d %q", status, reply, test.status, test.reply)
			}
		})
	}
}

func TestPageAndForm(t *testing.T) {
	_, base := start(t)
	resp, err := http.PostForm(base+"/write", url.Values{"name": {"note"}, "text": {"<b>"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, reply := send(t, "GET", base+"/", "")
	for _, want := range []string{"<code>demo-1</code>", `href="/files/note"`} {
		if !strings.Contains(reply, want) {
			t.Errorf("page lacks %q:\n%s", want, reply)
		}
	}
}

func TestEndingIsNotReadyButServes(t *testing.T) {
	app, base := start(t)
	app.ending.Store(true)
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200, "/whoami": 200} {
		if status, _ := send(t, "GET", base+path, ""); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
}
