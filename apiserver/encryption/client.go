// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Client is an [API] by way of a client with the administrator's rights.
type Client struct{ kubernetes.Interface }

// Metrics asks the API server that the client talks to.
func (c Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
}

// Touch updates a Secret with its own content. The API server writes it when
// that changes what etcd has. A Secret that is changed or deleted meanwhile is
// no error.
func (c Client) Touch(ctx context.Context, namespace, name string) error {
	secrets := c.CoreV1().Secrets(namespace)
	secret, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
