// SPDX-License-Identifier: Apache-2.0

// Package addresspool gives Services of type LoadBalancer their addresses on
// clusters that have no cloud to do so. AddressPool objects say which addresses
// there are; one Controller in a cluster hands them out and writes them to the
// Services' status; the Announcer of each node puts those that it owns on an
// uplink, from where the kernel answers ARP and neighbour discovery. What
// happens with a packet that arrives is the service proxy's.
//
// Which node owns an address is a function of the nodes that are alive
// (rendezvous hashing), so that nothing is agreed upon but who is alive: each
// node renews a Lease. Controller and Announcer may be used from one goroutine
// each.
package addresspool
