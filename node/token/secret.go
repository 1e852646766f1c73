// SPDX-License-Identifier: Apache-2.0

package token

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/util"
)

// Info describes a token that the cluster knows, without its secret.
type Info struct {
	ID          string
	Description string
	// Expires is zero for a token that never does.
	Expires time.Time
}

// Options say how a token is kept.
type Options struct {
	// TTL is for how long machines may join with it; 0 is for ever.
	TTL time.Duration
	// Description is for the people who list tokens.
	Description string
}

// Validate reports the first option that cannot work.
func (o Options) Validate() error {
	if o.TTL < 0 || (o.TTL > 0 && o.TTL < time.Second) {
		return fmt.Errorf("--ttl %v: expected a second or more, or 0 for a token that does not expire", o.TTL)
	}
	return nil
}

// Create makes the token known to the cluster.
func Create(ctx context.Context, client kubernetes.Interface, t Token, opts Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	data := map[string]string{
		api.BootstrapTokenIDKey:               t.ID,
		api.BootstrapTokenSecretKey:           t.Secret,
		api.BootstrapTokenUsageAuthentication: "true",
		api.BootstrapTokenExtraGroupsKey:      Group,
	}
	if opts.Description != "" {
		data[api.BootstrapTokenDescriptionKey] = opts.Description
	}
	if opts.TTL > 0 {
		data[api.BootstrapTokenExpirationKey] = time.Now().UTC().Add(opts.TTL).Format(time.RFC3339)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretName(t.ID), Namespace: metav1.NamespaceSystem},
		Type:       api.SecretTypeBootstrapToken, StringData: data,
	}
	if _, err := client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create token %s: %w", t.ID, err)
	}
	return nil
}

// List returns the tokens by which machines can join, those that expire first
// in front.
func List(ctx context.Context, client kubernetes.Interface) ([]Info, error) {
	secrets, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		FieldSelector: "type=" + string(api.SecretTypeBootstrapToken),
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	var all []Info
	for _, s := range secrets.Items {
		if string(s.Data[api.BootstrapTokenExtraGroupsKey]) != Group {
			continue
		}
		// A time that cannot be read is one that the API server refuses.
		expires, _ := time.Parse(time.RFC3339, string(s.Data[api.BootstrapTokenExpirationKey]))
		all = append(all, Info{
			ID: string(s.Data[api.BootstrapTokenIDKey]), Expires: expires,
			Description: string(s.Data[api.BootstrapTokenDescriptionKey]),
		})
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(boolCompare(a.Expires.IsZero(), b.Expires.IsZero()), a.Expires.Compare(b.Expires), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Delete makes the token useless. Nodes that have joined with it stay.
func Delete(ctx context.Context, client kubernetes.Interface, id string) error {
	if !util.IsValidBootstrapTokenID(id) {
		return errors.New("token id: expected 6 lower-case letters and digits, the part of the token before the first dot")
	}
	err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, secretName(id), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("token %s: there is no such token; see `slipway token list`", id)
	}
	if err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}

func secretName(id string) string { return api.BootstrapTokenSecretPrefix + id }
