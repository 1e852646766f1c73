// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/node/pki"
	"slipway.dev/slipway/node/token"
)

// apiServer answers what a machine that joins asks for.
type apiServer struct {
	*httptest.Server
	token token.Token
	// status answers all requests when it is set.
	status int
	// date is the time that the server tells.
	date time.Time
	// node is the one that has the name of the machine.
	node *corev1.Node
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Ensure(dir, "server", pki.Request{CommonName: "kube-apiserver", Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(append(pair.Cert, authority.PEM()...), pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	s := &apiServer{date: time.Now()}
	block, _ := pem.Decode(authority.PEM())
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if s.token, err = token.New(ca); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) address() string { return s.Listener.Addr().String() }

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.date.UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	answer := func(status int, object any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(object)
	}
	failure := func(status int, reason metav1.StatusReason) {
		answer(status, metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Code: int32(status), Reason: reason,
		})
	}
	switch {
	case s.status != 0:
		failure(s.status, "")
	case r.Header.Get("Authorization") != "Bearer "+s.token.Bearer():
		failure(http.StatusUnauthorized, metav1.StatusReasonUnauthorized)
	case strings.Contains(r.URL.Path, "/configmaps/"):
		answer(http.StatusOK, corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
			Data:     map[string]string{infoKey: `{"podCIDRs":["10.1.0.0/16"],"serviceCIDRs":["10.2.0.0/16"],"domain":"example"}`},
		})
	case s.node != nil:
		answer(http.StatusOK, s.node)
	default:
		failure(http.StatusNotFound, metav1.StatusReasonNotFound)
	}
}

func TestDiscover(t *testing.T) {
	s := newAPIServer(t)
	found, err := discover(t.Context(), s.address(), s.token, "one")
	if err != nil {
		t.Fatal(err)
	}
	if found.info.Domain != "example" || found.info.PodCIDRs[0].String() != "10.1.0.0/16" {
		t.Errorf("the cluster is %+v", found.info)
	}
	if !strings.Contains(string(found.authority), "BEGIN CERTIFICATE") {
		t.Errorf("the authority is %q", found.authority)
	}
}

func TestDiscoverRefuses(t *testing.T) {
	ready := &corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}}
	ready.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for name, c := range map[string]struct {
		change func(*apiServer) token.Token
		says   string
	}{
		"another cluster": {func(s *apiServer) token.Token {
			return token.Token{ID: s.token.ID, Secret: s.token.Secret, CAHash: strings.Repeat("0", 64)}
		}, "another cluster, or somebody is in between"},
		"unknown token": {func(s *apiServer) token.Token {
			return token.Token{ID: s.token.ID, Secret: "0000000000000000", CAHash: s.token.CAHash}
		}, "does not know token"},
		"clock of this machine behind": {func(s *apiServer) token.Token { s.date = s.date.Add(time.Hour); return s.token }, "set the clock"},
		"clock of this machine ahead":  {func(s *apiServer) token.Token { s.date = s.date.Add(-time.Hour); return s.token }, "set the clock"},
		"no Slipway server":            {func(s *apiServer) token.Token { s.status = http.StatusNotFound; return s.token }, "no Slipway server"},
		"broken server":                {func(s *apiServer) token.Token { s.status = http.StatusInternalServerError; return s.token }, "server 127.0.0.1"},
		"name is taken":                {func(s *apiServer) token.Token { s.node = ready; return s.token }, "choose another name with --node-name"},
		"no server":                    {func(s *apiServer) token.Token { s.Close(); return s.token }, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			use := c.change(s)
			_, err := discover(t.Context(), s.address(), use, "one")
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, expected one with %q", err, c.says)
			}
			if strings.Contains(err.Error(), use.Secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("expected one line without the secret: %q", err)
			}
		})
	}
}

// A token must not be sent to a server of another cluster.
func TestDiscoverKeepsTheTokenFromOthers(t *testing.T) {
	s := newAPIServer(t)
	asked := false
	s.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true })
	other := s.token
	other.CAHash = strings.Repeat("0", 64)
	if _, err := discover(t.Context(), s.address(), other, "one"); err == nil || asked {
		t.Errorf("error %v; the server was asked: %v", err, asked)
	}
}

func TestVerifyServerTellsTheClock(t *testing.T) {
	s := newAPIServer(t)
	var chain []*x509.Certificate
	for _, der := range s.TLS.Certificates[0].Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	for _, off := range []time.Duration{-time.Hour, 20 * 365 * 24 * time.Hour} {
		err := verifyServer(s.address(), chain, time.Now().Add(off))
		if err == nil || !strings.Contains(err.Error(), "set the clock") {
			t.Errorf("%v off: %v", off, err)
		}
	}
	if err := verifyServer(s.address(), chain, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:6443", "192.0.2.1:7443": "192.0.2.1:7443", "https://192.0.2.1:6443/": "192.0.2.1:6443",
		"2001:db8::1": "[2001:db8::1]:6443", "[2001:db8::1]:7443": "[2001:db8::1]:7443", "node.example": "node.example:6443",
	} {
		if got, err := parseServer(text); err != nil || got != want {
			t.Errorf("%s is read as %s (%v), expected %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "host:port:more", "host:99999", "a host", "http://host", ":6443"} {
		if got, err := parseServer(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func FuzzParseClusterInfo(f *testing.F) {
	f.Add(`{"podCIDRs":["10.1.0.0/16"],"serviceCIDRs":["10.2.0.0/16"],"domain":"example"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if info, err := parseClusterInfo(map[string]string{infoKey: text}); err == nil && len(info.PodCIDRs) == 0 {
			t.Error("a cluster without pods")
		}
	})
}

func TestRoles(t *testing.T) {
	cfg := Defaults()
	cfg.DataDir = t.TempDir()
	for _, r := range []role{server, worker} {
		if err := checkRole(cfg, r); err != nil {
			t.Errorf("empty directory: %v", err)
		}
	}
	j := joined{Servers: []string{"192.0.2.1:6443"}, CAHash: "x"}
	if err := j.write(cfg); err != nil {
		t.Fatal(err)
	}
	if err := checkRole(cfg, server); err == nil || !strings.Contains(err.Error(), "slipway join") {
		t.Errorf("up on a node that has joined: %v", err)
	}
	again, err := readJoined(cfg)
	if err != nil || again.Servers[0] != j.Servers[0] {
		t.Errorf("read %+v, %v", again, err)
	}
	if err := os.WriteFile(cfg.joinedFile(), []byte(`{"serv`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readJoined(cfg); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged file: %v", err)
	}
	if err := os.Remove(cfg.joinedFile()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cfg.data("pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.data("pki"), "ca.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkRole(cfg, worker); err == nil || !strings.Contains(err.Error(), "slipway up") {
		t.Errorf("join on a server: %v", err)
	}
}
