// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var authority = &x509.Certificate{RawSubjectPublicKeyInfo: []byte("public key")}

func TestParseReadsWhatStringWrites(t *testing.T) {
	made, err := New(authority)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse(made.String())
	if err != nil {
		t.Fatal(err)
	}
	if read != made {
		t.Errorf("read %+v, expected %+v", read, made)
	}
}

func TestParseRefuses(t *testing.T) {
	const secret = "0123456789abcdef"
	hash := Hash(authority)
	for name, c := range map[string]struct{ text, says string }{
		"empty":         {"", "expected ID.SECRET.CAHASH"},
		"without hash":  {"abcdef." + secret, "is missing"},
		"short hash":    {"abcdef." + secret + "." + hash[2:], "64 hexadecimal digits"},
		"no hash":       {"abcdef." + secret + "." + strings.Repeat("x", 64), "64 hexadecimal digits"},
		"upper case":    {"ABCDEF." + secret + "." + hash, "expected ID.SECRET.CAHASH"},
		"short secret":  {"abcdef.0123." + hash, "expected ID.SECRET.CAHASH"},
		"more to it":    {"abcdef." + secret + "." + hash + ".x", "64 hexadecimal digits"},
		"upper in hash": {"abcdef." + secret + "." + strings.ToUpper(hash), "64 hexadecimal digits"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.text)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, expected one with %q", err, c.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("abcdef.0123456789abcdef." + Hash(authority))
	f.Fuzz(func(t *testing.T, text string) {
		if read, err := Parse(text); err == nil && read.String() != text {
			t.Errorf("%q is read as %q", text, read)
		}
	})
}

func TestTokensOfACluster(t *testing.T) {
	client := fake.NewClientset()
	forever := Token{ID: "aaaaaa", Secret: "0123456789abcdef"}
	today := Token{ID: "bbbbbb", Secret: "0123456789abcdef"}
	if err := Create(t.Context(), client, forever, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), client, today, Options{TTL: time.Hour, Description: "rack 7"}); err != nil {
		t.Fatal(err)
	}
	// The API server does this.
	secrets, err := client.CoreV1().Secrets("kube-system").List(t.Context(), listAll)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets.Items {
		s.Data = map[string][]byte{}
		for k, v := range s.StringData {
			s.Data[k] = []byte(v)
		}
		if err := client.Tracker().Update(secretsResource, &s, "kube-system"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := List(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].ID != today.ID || all[0].Description != "rack 7" || !all[1].Expires.IsZero() {
		t.Errorf("tokens are %+v", all)
	}
	if err := Delete(t.Context(), client, forever.ID); err != nil {
		t.Fatal(err)
	}
	if err := Delete(t.Context(), client, forever.ID); err == nil || !strings.Contains(err.Error(), "no such token") {
		t.Errorf("second delete: %v", err)
	}
}

var (
	listAll         = metav1.ListOptions{}
	secretsResource = corev1.SchemeGroupVersion.WithResource("secrets")
)
