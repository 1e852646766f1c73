// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func parseAddrs(text string) []netip.Addr {
	var out []netip.Addr
	for _, one := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr(one))
	}
	return out
}

// TestNodePortAddresses has a node with two addresses of each family serve NodePorts
// on those that were asked for.
func TestNodePortAddresses(t *testing.T) {
	facts := Facts{
		NodeAddrs: parseAddrs("192.0.2.1 198.51.100.1 2001:db8::1 2001:db8:1::1"), Primary: parseAddrs("192.0.2.1 2001:db8::1"),
		PeerAddrs: parseAddrs("192.0.2.1 192.0.2.2 198.51.100.2 2001:db8::2"),
	}
	for text, want := range map[string][2]string{
		"":                              {"127.0.0.1 192.0.2.1 198.51.100.1 2001:db8::1 2001:db8:1::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
		"all":                           {"127.0.0.1 192.0.2.1 198.51.100.1 2001:db8::1 2001:db8:1::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
		"primary":                       {"192.0.2.1 2001:db8::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
		"primary localhost":             {"127.0.0.1 192.0.2.1 ::1 2001:db8::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
		"primary 198.51.100.0/24":       {"192.0.2.1 198.51.100.1 2001:db8::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
		"localhost":                     {"127.0.0.1 ::1", ""},
		"198.51.100.7/24":               {"198.51.100.1 2001:db8::1 2001:db8:1::1", "198.51.100.2 2001:db8::2"},
		"198.51.100.0/24 2001:db8::/64": {"198.51.100.1 2001:db8::1", "198.51.100.2 2001:db8::2"},
		"127.0.0.0/8":                   {"127.0.0.1 2001:db8::1 2001:db8:1::1", "2001:db8::2"},
		"203.0.113.0/24":                {"2001:db8::1 2001:db8:1::1", "2001:db8::2"},
		"::/0":                          {"127.0.0.1 192.0.2.1 198.51.100.1 2001:db8::1 2001:db8:1::1", "192.0.2.2 198.51.100.2 2001:db8::2"},
	} {
		t.Run(text, func(t *testing.T) {
			var err error
			if facts.NodePorts, err = ParseNodePortAddresses(strings.Fields(text)); err != nil {
				t.Fatal(err)
			}
			got := [2]string{strings.Trim(fmt.Sprint(facts.nodePortAddrs()), "[]"), strings.Trim(fmt.Sprint(facts.peerPortAddrs()), "[]")}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("own addresses and those of others (-want +got):\n%s", diff)
			}
		})
	}
	facts.Primary = parseAddrs("127.0.0.1")
	facts.NodePorts, _ = ParseNodePortAddresses([]string{"primary"})
	if got := facts.nodePortAddrs(); len(got) != 5 {
		t.Errorf("without an address of its own: %v, expected all", got)
	}
}

// TestPrimaryAddresses takes them from the Node object, and from the machine before
// there is one.
func TestPrimaryAddresses(t *testing.T) {
	own := parseAddrs("192.0.2.1 192.0.2.9 2001:db8::1")
	n1, n2 := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	n1.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.9"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
	}
	n2.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}}
	for name, tt := range map[string]struct {
		nodes []*corev1.Node
		want  string
	}{
		"of the Node object": {[]*corev1.Node{n2, n1}, "[192.0.2.9]"},
		"of the machine":     {[]*corev1.Node{n2}, "[192.0.2.1 2001:db8::1]"},
	} {
		if got := fmt.Sprint(NewFacts("n1", own, tt.nodes).Primary); got != tt.want {
			t.Errorf("%s: %s, expected %s", name, got, tt.want)
		}
	}
}

func TestNodePortAddressesThatMakeNoSense(t *testing.T) {
	const expected = "expected a range like 192.0.2.0/24, or primary, localhost or all"
	for text, want := range map[string]string{
		"Primary":                      `--nodeport-addresses: "Primary": ` + expected,
		"192.0.2.1":                    `--nodeport-addresses: "192.0.2.1": ` + expected,
		"192.0.2.0/24 10.0.0.0/33":     `--nodeport-addresses: "10.0.0.0/33": ` + expected,
		"::ffff:192.0.2.0/120":         `--nodeport-addresses: "::ffff:192.0.2.0/120": ` + expected,
		"primary 192.0.2.0/24 primary": `--nodeport-addresses: "primary" is there twice`,
	} {
		if _, err := ParseNodePortAddresses(strings.Fields(text)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, expected %s", text, err, want)
		}
	}
}

func FuzzParseNodePortAddresses(f *testing.F) {
	f.Add("primary", "192.0.2.0/24")
	f.Fuzz(func(t *testing.T, a, b string) {
		n, err := ParseNodePortAddresses([]string{a, b})
		if err != nil {
			return
		}
		facts := Facts{NodeAddrs: parseAddrs("192.0.2.1 2001:db8::1"), Primary: parseAddrs("192.0.2.1"), NodePorts: n}
		facts.nodePortAddrs()
	})
}
