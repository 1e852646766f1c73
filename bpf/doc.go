// SPDX-License-Identifier: Apache-2.0

// Package bpf owns the programs and tables of the data path: it loads them,
// pins them, attaches them, and gives typed access to what the control plane
// writes. The C sources lie beside it, one file a hook; their objects are
// generated and committed, so that no node needs a compiler.
//
// Everything that carries traffic is pinned: maps under DIR/maps, links under
// DIR/links. A process that ends, however, changes nothing for the kernel; the
// next one adopts the maps with their content and puts its own programs into
// the links that exist, each by one atomic update.
//
// A Datapath may be used from several goroutines; calls for the same frontend,
// backend or interface must not overlap.
package bpf
