// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"reflect"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusTimeout bounds one write, and retryStatus is when a failed one is
// tried again.
const (
	statusTimeout = 5 * time.Second
	retryStatus   = 2 * time.Second
)

// writeStatus brings the status of all Ingresses to what is served: our
// addresses on those of our class, and none of ours on those that have left
// it.
func (c *Controller) writeStatus(ctx context.Context, objects Objects) {
	ours := c.addresses()
	for _, ing := range objects.Ingresses {
		have := ing.Status.LoadBalancer.Ingress
		switch {
		case Ours(ing, objects.Classes):
			if !reflect.DeepEqual(have, ours) {
				c.setStatus(ctx, ing, ours)
			}
		case len(have) > 0 && reflect.DeepEqual(have, ours):
			c.setStatus(ctx, ing, nil)
		}
	}
}

func (c *Controller) addresses() []networkingv1.IngressLoadBalancerIngress {
	var out []networkingv1.IngressLoadBalancerIngress
	for _, addr := range c.cfg.Addresses {
		out = append(out, networkingv1.IngressLoadBalancerIngress{IP: addr.String()})
	}
	return out
}

func (c *Controller) setStatus(ctx context.Context, ing *networkingv1.Ingress, to []networkingv1.IngressLoadBalancerIngress) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	ing = ing.DeepCopy()
	ing.Status.LoadBalancer.Ingress = to
	_, err := c.cfg.Client.NetworkingV1().Ingresses(ing.Namespace).UpdateStatus(ctx, ing, metav1.UpdateOptions{})
	// A change in between comes with a note of its own.
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) || ctx.Err() != nil {
		return
	}
	c.cfg.Log.Warn("write ingress status", "ingress", ing.Namespace+"/"+ing.Name, "err", err)
	time.AfterFunc(retryStatus, c.touch)
}
