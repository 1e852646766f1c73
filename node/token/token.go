// SPDX-License-Identifier: Apache-2.0

// Package token owns the tokens by which machines join a cluster. A token is
// a bootstrap token of Kubernetes, kept as a Secret that the API server
// authenticates with, and the hash of the cluster's certificate authority, by
// which the machine knows the cluster. It has no state of its own.
package token

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"k8s.io/cluster-bootstrap/token/util"
)

// Group is what a machine that joins is a member of until it has a
// certificate of its own.
const Group = "system:bootstrappers:slipway:nodes"

// Token is the right to join one cluster, written ID.SECRET.CAHASH.
type Token struct {
	// ID names the token; it is no secret.
	ID string
	// Secret is 16 lower-case letters and digits.
	Secret string
	// CAHash is the hash of the cluster's authority, see [Hash].
	CAHash string
}

// New makes a token for the cluster of an authority.
func New(authority *x509.Certificate) (Token, error) {
	text, err := util.GenerateBootstrapToken()
	if err != nil {
		return Token{}, fmt.Errorf("make token: %w", err)
	}
	id, secret, _ := strings.Cut(text, ".")
	return Token{ID: id, Secret: secret, CAHash: Hash(authority)}, nil
}

// Parse reads a token as [Token.String] writes it. The error never holds the
// secret.
func Parse(text string) (Token, error) {
	id, rest, _ := strings.Cut(text, ".")
	secret, hash, pinned := strings.Cut(rest, ".")
	if !util.IsValidBootstrapToken(id + "." + secret) {
		return Token{}, errors.New("token: expected ID.SECRET.CAHASH as printed by `slipway token create`")
	}
	if !pinned {
		return Token{}, fmt.Errorf("token %s: the hash of the certificate authority is missing; expected all of what `slipway token create` has printed", id)
	}
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size || strings.ToLower(hash) != hash {
		return Token{}, fmt.Errorf("token %s: hash of the certificate authority %q: expected %d hexadecimal digits", id, hash, 2*sha256.Size)
	}
	return Token{ID: id, Secret: secret, CAHash: hash}, nil
}

func (t Token) String() string { return t.Bearer() + "." + t.CAHash }

// Bearer is the part that the API server authenticates.
func (t Token) Bearer() string { return util.TokenFromIDAndSecret(t.ID, t.Secret) }

// Hash is the SHA-256 of a certificate's public key in hexadecimal digits, as
// kubeadm pins authorities (RFC 7469, section 2.4).
func Hash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
