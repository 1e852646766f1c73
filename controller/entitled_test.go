// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// request makes what node "one" sends, changed by edit.
func request(t *testing.T, signer string, edit func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequestSpec)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	req := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:node:one", Organization: []string{"system:nodes"}},
		DNSNames: []string{"one"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
	}
	spec := certificatesv1.CertificateSigningRequestSpec{
		SignerName: signer, Username: "system:node:one", Groups: []string{"system:nodes", "system:authenticated"},
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
	}
	if signer == certificatesv1.KubeAPIServerClientSignerName {
		req.Subject = pkix.Name{CommonName: "slipway:agent:one", Organization: []string{AgentGroup}}
		req.DNSNames, req.IPAddresses = nil, nil
		spec.Usages[1] = certificatesv1.UsageClientAuth
	}
	edit(req, &spec)
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr"}, Spec: spec}
}

func nodeWith(name string, addresses ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestEntitled(t *testing.T) {
	type edit = func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequestSpec)
	const serving, client = certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientSignerName
	nodes := []corev1.Node{nodeWith("one", "192.0.2.1", "2001:db8:0::1"), nodeWith("two", "192.0.2.2")}
	for name, c := range map[string]struct {
		signer string
		edit   edit
		says   string
	}{
		"server of a node": {serving, func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequestSpec) {}, ""},
		"agent of a node":  {client, func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequestSpec) {}, ""},
		"address of another node": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.IPAddresses = []net.IP{net.ParseIP("192.0.2.2")}
		}, "is of nodes [two]"},
		"address of nobody": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.IPAddresses = []net.IP{net.ParseIP("10.96.0.1")}
		}, "is of nodes []"},
		"name of the API": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.DNSNames = []string{"kubernetes.default.svc"}
		}, "is of nodes []"},
		"loopback": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.IPAddresses = []net.IP{net.ParseIP("127.0.0.1")}
		}, "loopback"},
		"nothing to serve": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.DNSNames, r.IPAddresses = nil, nil
		}, "no name and no address"},
		"mail": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.EmailAddresses = []string{"a@example.com"}
		}, "mail addresses"},
		"client usage": {serving, func(_ *x509.CertificateRequest, s *certificatesv1.CertificateSigningRequestSpec) {
			s.Usages = append(s.Usages, certificatesv1.UsageClientAuth)
		}, "usages"},
		"subject of another": {serving, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.Subject.CommonName = "system:node:two"
		}, "expected its own"},
		"agent of another node": {client, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.Subject.CommonName = "slipway:agent:two"
		}, `expected "slipway:agent:one"`},
		"agent that serves": {client, func(r *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequestSpec) {
			r.DNSNames = []string{"one"}
		}, "no names or addresses"},
		"no node": {client, func(_ *x509.CertificateRequest, s *certificatesv1.CertificateSigningRequestSpec) {
			s.Username = "alice"
		}, "expected a node"},
		"outside the group": {serving, func(_ *x509.CertificateRequest, s *certificatesv1.CertificateSigningRequestSpec) {
			s.Groups = []string{"system:authenticated"}
		}, "expected a node"},
	} {
		t.Run(name, func(t *testing.T) {
			err := entitled(request(t, c.signer, c.edit), nodes)
			if c.says == "" && err != nil {
				t.Fatal(err)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, expected one with %q", err, c.says)
			}
		})
	}
}

func TestApproverApproves(t *testing.T) {
	csr := request(t, certificatesv1.KubeAPIServerClientSignerName, func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequestSpec) {})
	client := fake.NewClientset(csr)
	a := NewApprover(client, slog.New(slog.DiscardHandler))
	if err := a.handle(t.Context(), "csr"); err != nil {
		t.Fatal(err)
	}
	now, err := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "csr", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(now.Status.Conditions) != 1 || now.Status.Conditions[0].Type != certificatesv1.CertificateApproved {
		t.Errorf("conditions are %+v", now.Status.Conditions)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if req, err := parseRequest(data); err == nil && req == nil {
			t.Error("neither a request nor an error")
		}
	})
}
