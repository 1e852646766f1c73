// SPDX-License-Identifier: Apache-2.0

package cni

import "slipway.dev/slipway/bpf"

// Datapath is what the server tells about pods; *bpf.Datapath is one. All
// methods are idempotent and take the index of the pod interface. Those that
// remove work when the interface does not exist any more. Calls for one
// interface do not overlap, others may.
type Datapath interface {
	// AttachPod puts the programs on a pod interface, or adopts them.
	AttachPod(ifindex int) error
	// DetachPod takes them off.
	DetachPod(ifindex int) error
	// PutEndpoint makes a pod reachable at its addresses.
	PutEndpoint(bpf.Endpoint) error
	// DeleteEndpoint is the reverse of PutEndpoint.
	DeleteEndpoint(ifindex int) error
	// Endpoints returns all pods that are known.
	Endpoints() ([]bpf.Endpoint, error)
}
