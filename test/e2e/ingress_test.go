// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	plainHost  = "app.e2e.test"
	secureHost = "secure.e2e.test"
)

func testIngress(t *testing.T, c *cluster) {
	roots := c.makeTLS(t, "secure", secureHost)
	c.kubectl(t, "apply", "-f", "testdata/ingress.yaml")
	t.Cleanup(func() {
		c.kubectl(t, "delete", "-f", "testdata/ingress.yaml", "--ignore-not-found")
		c.kubectl(t, "delete", "secret", "secure", "--ignore-not-found")
	})
	c.kubectl(t, "wait", "ingress/app", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}="+c.nodeIPs[0].String(), "--timeout=30s")
	for _, node := range c.nodeIPs {
		browser := browse(node, roots)
		for _, tt := range []struct {
			url    string
			status int
			// server is how the name of the pod begins.
			server string
		}{
			{"http://" + plainHost + "/", 200, "echo-"},
			{"http://" + plainHost + "/some/path?x=1", 200, "echo-"},
			{"http://" + plainHost + "/exact", 200, "client "},
			{"http://" + plainHost + "/exact/", 200, "echo-"},
			{"http://" + plainHost + "/exact/more", 200, "echo-"},
			{"http://" + plainHost + "/prefix", 200, "client "},
			{"http://" + plainHost + "/prefix/more", 200, "client "},
			{"http://" + plainHost + "/prefixes", 200, "echo-"},
			{"http://" + plainHost + "/nobody", 503, ""},
			{"http://other.e2e.test/", 404, ""},
			{"https://" + secureHost + "/", 200, "echo-"},
		} {
			t.Run(tt.url+" at "+node.String(), func(t *testing.T) {
				wantPage(t, browser, tt.url, tt.status, tt.server)
			})
		}
		wantAllServers(t, browser)
	}
}

// wantPage fetches a page until it is as expected: the route table follows
// the API by a moment.
func wantPage(t *testing.T, browser *http.Client, url string, status int, server string) {
	t.Helper()
	within(t, 15*time.Second, func() error {
		resp, body, err := fetch(browser, url)
		if err != nil {
			return err
		}
		if resp.StatusCode != status || status == 200 && !strings.HasPrefix(body, server) {
			return fmt.Errorf("%s: status %d from %q, expected %d from %q", url, resp.StatusCode, body, status, server)
		}
		if status != 200 {
			return nil
		}
		if got, want := resp.Header.Get("X-Path"), resp.Request.URL.Path; got != want {
			return fmt.Errorf("%s: the server saw path %q", url, got)
		}
		if got, want := resp.Header.Get("X-Host"), resp.Request.URL.Host; got != want {
			return fmt.Errorf("%s: the server saw host %q", url, got)
		}
		return nil
	})
}

func wantAllServers(t *testing.T, browser *http.Client) {
	t.Helper()
	servers := map[string]int{}
	for range enough {
		_, body, err := fetch(browser, "https://"+secureHost+"/")
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(body, " ")
		servers[name]++
	}
	if len(servers) != replicas {
		t.Errorf("answers from %v, expected %d servers", servers, replicas)
	}
}

func fetch(browser *http.Client, url string) (*http.Response, string, error) {
	resp, err := browser.Get(url)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// browse returns a client that finds every host at the node, and makes a new
// connection for every request.
func browse(node netip.Addr, roots *x509.CertPool) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(node.String(), port))
		},
	}}
}
