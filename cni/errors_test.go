// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/store"
)

func TestCNIError(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code uint
	}{
		{"with a code", fmt.Errorf("x: %w", types.NewError(7, "m", "d")), 7},
		{"namespace", fmt.Errorf("x: %w", device.ErrNamespace), types.ErrInvalidNetNS},
		{"no address", fmt.Errorf("x: %w", ipam.ErrExhausted), types.ErrTryAgainLater},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), types.ErrTryAgainLater},
		{"other", errors.New("x"), types.ErrInternal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := cniError(tt.err); got == nil || got.Code != tt.code {
				t.Errorf("got %v, want code %d", got, tt.code)
			}
		})
	}
	if got := cniError(nil); got != nil {
		t.Errorf("no error became %v", got)
	}
}

func TestPodOf(t *testing.T) {
	tests := []struct {
		name, args string
		want       [3]string
	}{
		{"containerd", "K8S_POD_INFRA_CONTAINER_ID=1;K8S_POD_UID=u;IgnoreUnknown=1;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p", [3]string{"n", "p", "u"}},
		{"empty", "", [3]string{}},
		{"broken", ";=;K8S_POD_NAME;=x;K8S_POD_UID=a=b", [3]string{"", "", "a=b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			namespace, name, uid := podOf(tt.args)
			if diff := cmp.Diff(tt.want, [3]string{namespace, name, uid}); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostNamesDiffer(t *testing.T) {
	n := &network{attachments: map[store.Key]*attachment{}}
	key := store.Key{ContainerID: "c", IfName: "eth0"}
	first := n.hostName(key)
	n.attachments[store.Key{ContainerID: "other"}] = &attachment{Record: store.Record{HostName: first}}
	if second := n.hostName(key); second == first || len(second) != len(first) {
		t.Errorf("names %s and %s", first, second)
	}
}
