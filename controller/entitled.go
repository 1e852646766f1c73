// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

const (
	// AgentGroup has the rights of the data plane on a node.
	AgentGroup = "slipway:agents"
	// AgentUser followed by a node's name is the identity of its agent.
	AgentUser = "slipway:agent:"

	nodeUser = "system:node:"
)

// deniedError says why a node is not entitled to a certificate.
type deniedError struct{ reason string }

func (e *deniedError) Error() string { return e.reason }

func denied(format string, args ...any) error {
	return &deniedError{fmt.Sprintf(format, args...)}
}

// entitled returns nil when the node that made the request may have the
// certificate, or a *deniedError that says what is wrong with it.
func entitled(csr *certificatesv1.CertificateSigningRequest, nodes []corev1.Node) error {
	name, isNode := strings.CutPrefix(csr.Spec.Username, nodeUser)
	if !isNode || !slices.Contains(csr.Spec.Groups, user.NodesGroup) {
		return denied("requested by %q, expected a node", csr.Spec.Username)
	}
	req, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return denied("request of %s: %v", csr.Spec.Username, err)
	}
	if len(req.EmailAddresses)+len(req.URIs) > 0 {
		return denied("request of %s: holds mail addresses or URIs", csr.Spec.Username)
	}
	if csr.Spec.SignerName == certificatesv1.KubeletServingSignerName {
		return entitledToServe(csr, req, name, nodes)
	}
	if want := AgentUser + name; req.Subject.CommonName != want {
		return denied("request of %s: common name %q, expected %q", csr.Spec.Username, req.Subject.CommonName, want)
	}
	if len(req.DNSNames)+len(req.IPAddresses) > 0 {
		return denied("request of %s: a client certificate has no names or addresses", csr.Spec.Username)
	}
	return nil
}

// entitledToServe follows the rules of the signer
// kubernetes.io/kubelet-serving, and lets a node have the names and addresses
// of its own Node object only, as long as no other node has them too.
func entitledToServe(csr *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest, name string, nodes []corev1.Node) error {
	if req.Subject.CommonName != csr.Spec.Username || !slices.Equal(req.Subject.Organization, []string{user.NodesGroup}) {
		return denied("request of %s: subject %q, expected its own", csr.Spec.Username, req.Subject)
	}
	if !slices.Contains(csr.Spec.Usages, certificatesv1.UsageServerAuth) || slices.Contains(csr.Spec.Usages, certificatesv1.UsageClientAuth) {
		return denied("request of %s: usages %v, expected those of a server", csr.Spec.Username, csr.Spec.Usages)
	}
	wanted := slices.Clone(req.DNSNames)
	for _, ip := range req.IPAddresses {
		if ip.IsLoopback() {
			return denied("request of %s: loopback address %s", csr.Spec.Username, ip)
		}
		wanted = append(wanted, ip.String())
	}
	if len(wanted) == 0 {
		return denied("request of %s: no name and no address", csr.Spec.Username)
	}
	for _, want := range wanted {
		if holders := holdersOf(want, nodes); !slices.Equal(holders, []string{name}) {
			return denied("request of %s: %q is of nodes %v", csr.Spec.Username, want, holders)
		}
	}
	return nil
}

// holdersOf lists the nodes that have a name or an address.
func holdersOf(address string, nodes []corev1.Node) []string {
	var holders []string
	for _, node := range nodes {
		has := func(a corev1.NodeAddress) bool { return sameAddress(a.Address, address) }
		if node.Name == address || slices.ContainsFunc(node.Status.Addresses, has) {
			holders = append(holders, node.Name)
		}
	}
	return holders
}

func sameAddress(a, b string) bool {
	x, y := net.ParseIP(a), net.ParseIP(b)
	return a == b || (x != nil && x.Equal(y))
}

func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("no PEM block of type CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
