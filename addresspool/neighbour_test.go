// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

func TestFrames(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for addr, test := range map[string]struct {
		make func(net.HardwareAddr, netip.Addr) []byte
		want string
	}{
		"192.0.2.1": {announcement, "ffffffffffff" + "020000000001" + "0806" + "0001080006040001" +
			"020000000001" + "c0000201" + "000000000000" + "c0000201"},
		"2001:db8::1": {advertisement, "333300000001" + "020000000001" + "86dd" + "6000000000203aff" +
			"20010db8000000000000000000000001" + "ff020000000000000000000000000001" +
			"8800" + "f92a" + "20000000" + "20010db8000000000000000000000001" + "0201020000000001"},
	} {
		if have := hex.EncodeToString(test.make(mac, netip.MustParseAddr(addr))); have != test.want {
			t.Errorf("%s:\nhave %s\nwant %s", addr, have, test.want)
		}
	}
}
