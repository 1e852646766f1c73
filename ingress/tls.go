// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// tls enters the certificate of a Secret for its hosts. Hosts whose Secret is
// missing or broken get the default certificate.
func (c *compiler) tls(ing *networkingv1.Ingress, i int, entry networkingv1.IngressTLS) {
	if entry.SecretName == "" {
		return
	}
	field := fmt.Sprintf("spec.tls[%d].secretName", i)
	secret := c.secrets[ing.Namespace+"/"+entry.SecretName]
	if secret == nil {
		c.problem(ing, "SecretNotFound", "%s %q: no Secret of type %s in namespace %s has this name", field, entry.SecretName, corev1.SecretTypeTLS, ing.Namespace)
		return
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		c.problem(ing, "InvalidCertificate", "%s %q: expected a certificate and its key: %v", field, entry.SecretName, err)
		return
	}
	hosts := entry.Hosts
	if len(hosts) == 0 && pair.Leaf != nil {
		hosts = pair.Leaf.DNSNames
	}
	for _, host := range hosts {
		in, name := c.table.exactCerts, strings.ToLower(host)
		if parent, ok := strings.CutPrefix(name, "*."); ok {
			in, name = c.table.wildcardCerts, parent
		}
		// The older Ingress has it.
		if in[name] == nil {
			in[name] = &pair
		}
	}
}

// defaultCertificate makes the self-signed certificate that is shown for
// names without one. It is kept in memory only.
func defaultCertificate() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make default certificate: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "Slipway Ingress Default Certificate"},
		DNSNames:     []string{"ingress.local"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make default certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
