// SPDX-License-Identifier: Apache-2.0

package bpf

import "net/netip"

// Protocol is a transport protocol, by its IP protocol number.
type Protocol uint8

// The protocols that Services are translated for.
const (
	ProtocolTCP  Protocol = 6
	ProtocolUDP  Protocol = 17
	ProtocolSCTP Protocol = 132
)

// String returns the name as Kubernetes writes it.
func (p Protocol) String() string {
	switch p {
	case ProtocolTCP:
		return "TCP"
	case ProtocolUDP:
		return "UDP"
	case ProtocolSCTP:
		return "SCTP"
	}
	return "unknown"
}

// Scope says from where a frontend may be used.
type Scope uint8

const (
	// ScopeCluster is for pods and the node itself.
	ScopeCluster Scope = 0
	// ScopeExternal is for other hosts.
	ScopeExternal Scope = 1
)

// Frontend is an address that clients use for a Service. With ScopeCluster and
// neither port nor protocol it stands for all that the address has no other
// frontend for.
type Frontend struct {
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
	Scope    Scope
}

// Range is where the slots of a frontend are, and how it is used. A range without slots belongs
// to a Service without endpoints; connections to it are refused.
type Range struct {
	First, Count, Generation uint32
	// Affinity is for how long a client keeps its backend, in seconds since
	// it was used last; 0 when connections go anywhere.
	Affinity uint32
	// Service is, with Affinity, the number of a Service port: a client keeps its
	// backend across all frontends that have the same.
	Service uint64
	// Sources is the set of addresses that may use the frontend; 0 when all may.
	Sources uint32
	// Silent has packets to a frontend without slots dropped, not rejected.
	Silent bool
	// Maglev has a hash of the client choose the slot; the range is a table in
	// which each backend has many.
	Maglev bool
	// Direct has backends of other nodes answer the client themselves.
	Direct bool
}

// BackendFlags tell where a backend is.
type BackendFlags uint16

const (
	// BackendLocalPod is a pod of this node.
	BackendLocalPod BackendFlags = 1 << iota
	// BackendLocalHost is a socket of this node itself.
	BackendLocalHost
)

// Backend is a target of connections to a frontend.
type Backend struct {
	Addr  netip.Addr
	Port  uint16
	Flags BackendFlags
}
