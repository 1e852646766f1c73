// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// toAddr writes IPv4 v4-mapped, as the data path has it.
func toAddr(a netip.Addr) uplinkAddr {
	var out uplinkAddr
	if !a.IsValid() {
		return out
	}
	wire := a.As16()
	for i := range out.W {
		out.W[i] = binary.NativeEndian.Uint32(wire[4*i:])
	}
	return out
}

// fromAddr returns the zero Addr for the unspecified address.
func fromAddr(a uplinkAddr) netip.Addr {
	var wire [16]byte
	for i, word := range a.W {
		binary.NativeEndian.PutUint32(wire[4*i:], word)
	}
	if wire == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(wire).Unmap()
}

// toPort swaps between host and wire order, both ways.
func toPort(port uint16) uint16 {
	var wire [2]byte
	binary.BigEndian.PutUint16(wire[:], port)
	return binary.NativeEndian.Uint16(wire[:])
}

func toMAC(mac net.HardwareAddr) (out [6]byte) {
	copy(out[:], mac)
	return out
}

func (f Frontend) key() uplinkFrontendKey {
	return uplinkFrontendKey{Addr: toAddr(f.Addr), Port: toPort(f.Port), Proto: uint8(f.Protocol), Scope: uint8(f.Scope)}
}

func frontendOf(key uplinkFrontendKey) Frontend {
	return Frontend{
		Addr: fromAddr(key.Addr), Port: toPort(key.Port), Protocol: Protocol(key.Proto), Scope: Scope(key.Scope),
	}
}
