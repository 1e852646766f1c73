// SPDX-License-Identifier: Apache-2.0

// Package pki owns the certificates of a bundled cluster: one authority for
// servers and clients, one for the API aggregation front proxy, and the key
// that signs service-account tokens. Everything is ECDSA P-256 and made in
// milliseconds. Private keys are written with mode 0600 and never logged.
// Functions may be called from one goroutine at a time per directory.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"slipway.dev/slipway/internal/atomicfile"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// renewBefore is how long before its end a leaf certificate is made anew
	// when the node starts.
	renewBefore = 90 * 24 * time.Hour
	// skew allows for clocks of other machines that run behind ours.
	skew = 5 * time.Minute
)

// Authority is a certificate authority stored as NAME.crt and NAME.key.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// LoadAuthority reads the authority called name in dir, or makes it when
// neither of its files exists. A certificate without its key, or a broken
// file, is an error that names the file: it is never overwritten, because
// every client of the cluster trusts it.
func LoadAuthority(dir, name string) (*Authority, error) {
	crt, key := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	pair, err := readPair(crt, key)
	if errors.Is(err, os.ErrNotExist) && !exists(crt) && !exists(key) {
		return makeAuthority(crt, key, name)
	}
	if err != nil {
		return nil, err
	}
	return &Authority{cert: pair.cert, key: pair.key, pem: pair.certPEM}, nil
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Request describes a leaf certificate.
type Request struct {
	CommonName    string
	Organizations []string
	// Hosts are the DNS names and IP addresses of a server certificate. A
	// request without hosts is for a client.
	Hosts []string
}

// Ensure makes sure that NAME.crt and NAME.key in dir are a valid pair for
// the request, signed by this authority, and issues a new pair when they are
// not or when the end of their life is near.
func (a *Authority) Ensure(dir, name string, req Request) (Pair, error) {
	crt, key := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if have, err := readPair(crt, key); err == nil && a.good(have.cert, req) {
		return have.Pair(), nil
	}
	made, err := a.issue(req)
	if err != nil {
		return Pair{}, fmt.Errorf("issue certificate %s: %w", name, err)
	}
	if err := writePair(crt, key, made); err != nil {
		return Pair{}, err
	}
	return made, nil
}

// Pair is a certificate and its private key, PEM encoded.
type Pair struct{ Cert, Key []byte }

func (a *Authority) good(cert *x509.Certificate, req Request) bool {
	if cert.CheckSignatureFrom(a.cert) != nil || time.Now().Add(renewBefore).After(cert.NotAfter) {
		return false
	}
	want := template(req)
	return cert.Subject.String() == want.Subject.String() &&
		sameStrings(cert.DNSNames, want.DNSNames) && sameIPs(cert.IPAddresses, want.IPAddresses)
}

func (a *Authority) issue(req Request) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	tmpl := template(req)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	return encodePair(der, key)
}

func template(req Request) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: req.CommonName, Organization: req.Organizations},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, host := range req.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	if len(req.Hosts) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return t
}

func makeAuthority(crt, key, name string) (*Authority, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("slipway-%s@%d", name, now.Unix())},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, priv.Public(), priv)
	if err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	made, err := encodePair(der, priv)
	if err != nil {
		return nil, err
	}
	if err := writePair(crt, key, made); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: priv, pem: made.Cert}, nil
}

// serial returns a random 127-bit serial number (RFC 5280, section 4.1.2.2).
func serial() *big.Int {
	limit := new(big.Int).Lsh(big.NewInt(1), 127)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		panic("no randomness: " + err.Error())
	}
	return n
}

func encodePair(der []byte, key *ecdsa.PrivateKey) (Pair, error) {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// writePair writes the key first: a crash between the two leaves a pair that
// does not match and is issued again.
func writePair(crt, key string, p Pair) error {
	if err := atomicfile.Write(key, p.Key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(crt, p.Cert, 0o644)
}
