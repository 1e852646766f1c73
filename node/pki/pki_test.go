// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func testCluster(t *testing.T) Cluster {
	dir := t.TempDir()
	return Cluster{
		Dir: filepath.Join(dir, "pki"), Server: "https://127.0.0.1:6443", NodeName: "n1",
		Hosts: []string{"localhost", "127.0.0.1", "10.96.0.1"}, NodeHosts: []string{"n1", "127.0.0.1"},
		AdminKubeconfig: filepath.Join(dir, "etc", "kubeconfig"),
	}
}

func TestEnsureIsStable(t *testing.T) {
	c := testCluster(t)
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, c.Dir)
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	for name, data := range readAll(t, c.Dir) {
		if !bytes.Equal(before[name], data) {
			t.Errorf("%s changed although nothing was due", name)
		}
	}
}

func TestEnsureReissuesOnNewAddress(t *testing.T) {
	c := testCluster(t)
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, c.Dir)
	c.Hosts = append(c.Hosts, "192.0.2.7")
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	after := readAll(t, c.Dir)
	if bytes.Equal(before["apiserver.crt"], after["apiserver.crt"]) {
		t.Error("the server certificate does not cover the new address")
	}
	if !bytes.Equal(before["ca.crt"], after["ca.crt"]) {
		t.Error("the authority changed")
	}
}

func TestBrokenAuthorityIsNotReplaced(t *testing.T) {
	for name, breakIt := range map[string]func(path string) error{
		"key missing": func(path string) error { return os.Remove(path + ".key") },
		"not PEM":     func(path string) error { return os.WriteFile(path+".crt", []byte("x"), 0o644) },
		"other key": func(path string) error {
			key, err := newKey()
			if err != nil {
				return err
			}
			return os.WriteFile(path+".key", key, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := testCluster(t)
			if err := c.Ensure(); err != nil {
				t.Fatal(err)
			}
			if err := breakIt(c.Path("ca")); err != nil {
				t.Fatal(err)
			}
			if err := c.Ensure(); err == nil || !strings.Contains(err.Error(), c.Dir) {
				t.Errorf("got %v, expected an error that names the file", err)
			}
		})
	}
}

func TestPrivateFilesAreProtected(t *testing.T) {
	c := testCluster(t)
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	for name := range readAll(t, c.Dir) {
		info, err := os.Stat(c.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		public := strings.HasSuffix(name, ".crt") || strings.HasSuffix(name, ".pub")
		if !public && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, expected 0600", name, info.Mode().Perm())
		}
	}
	if info, err := os.Stat(c.AdminKubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin kubeconfig: %v, %v; expected mode 0600", info, err)
	}
}

// TestHandshake lets a client with the admin kubeconfig talk to a server with
// the API server's certificate.
func TestHandshake(t *testing.T) {
	c := testCluster(t)
	if err := c.Ensure(); err != nil {
		t.Fatal(err)
	}
	serverPair, err := tls.LoadX509KeyPair(c.Path("apiserver.crt"), c.Path("apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	clientPair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(config.CAData)
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{serverPair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	client := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{clientPair}, RootCAs: pool, ServerName: "10.96.0.1"})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := server.ConnectionState().PeerCertificates[0].Subject.Organization; len(got) != 1 || got[0] != "system:masters" {
		t.Errorf("client is in %v, expected system:masters", got)
	}
}

func readAll(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = data
	}
	return out
}
