// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// States of sockets in /proc/net, see proc_pid_net(5).
const (
	tcpListen = "0A"
	udpOpen   = "07"
	// unixListen is the flag of a unix socket that accepts connections.
	unixListen = 0x10000
)

// ephemeral is the first port that clients get when they ask for none.
const ephemeral = 32768

// sockets lists listening sockets: TCP ports, UDP ports that somebody has
// chosen, and unix sockets that are a node's by their path.
func sockets() ([]string, error) {
	var out []string
	for _, table := range []struct{ name, state string }{
		{"tcp", tcpListen}, {"tcp6", tcpListen}, {"udp", udpOpen}, {"udp6", udpOpen},
	} {
		data, err := os.ReadFile("/proc/net/" + table.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := parseInet(string(data), table.state)
		if err != nil {
			return nil, err
		}
		for _, addr := range found {
			if table.state == udpOpen && addr.Port() >= ephemeral {
				continue
			}
			out = append(out, table.name+" "+addr.String())
		}
	}
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	for _, path := range parseUnix(string(data)) {
		if ours(path) {
			out = append(out, "unix "+path)
		}
	}
	return out, nil
}

// parseInet returns the local addresses of sockets in a state.
func parseInet(table, state string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		addr, err := parseAddr(fields[1])
		if err != nil {
			return nil, fmt.Errorf("socket %q: %w", fields[1], err)
		}
		out = append(out, addr)
	}
	return out, nil
}

// parseAddr reads "0100007F:1F90": 32-bit words in the order of the machine,
// which is little-endian here, then the port.
func parseAddr(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(raw)%4 != 0 {
		return netip.AddrPort{}, errors.New("expected an address of whole words")
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, errors.New("expected an IPv4 or IPv6 address")
	}
	return netip.AddrPortFrom(addr, uint16(number)), nil
}

// parseUnix returns the paths of listening unix sockets.
func parseUnix(table string) []string {
	var out []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		if flags, err := strconv.ParseUint(fields[3], 16, 32); err == nil && flags&unixListen != 0 {
			out = append(out, fields[7])
		}
	}
	return out
}
