// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"strings"
)

// addrList and prefixList are flags that hold several values, set by one flag
// with commas or by several flags.
type addrList struct {
	to  *[]netip.Addr
	set bool
}

func addrs(to *[]netip.Addr) *addrList { return &addrList{to: to} }

func (l *addrList) Type() string   { return "addresses" }
func (l *addrList) String() string { return joinText(*l.to) }
func (l *addrList) Set(text string) error {
	if !l.set {
		*l.to, l.set = nil, true
	}
	return parseAll(text, l.to, func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return a, fmt.Errorf("%q: expected an IP address", s)
		}
		return a.Unmap(), nil
	})
}

type prefixList struct {
	to  *[]netip.Prefix
	set bool
}

func prefixes(to *[]netip.Prefix) *prefixList { return &prefixList{to: to} }

func (l *prefixList) Type() string   { return "ranges" }
func (l *prefixList) String() string { return joinText(*l.to) }
func (l *prefixList) Set(text string) error {
	if !l.set {
		*l.to, l.set = nil, true
	}
	return parseAll(text, l.to, func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("%q: expected a range like 10.0.0.0/16", s)
		}
		if p != p.Masked() {
			return p, fmt.Errorf("%q: has bits set beyond its prefix length, expected %s", s, p.Masked())
		}
		return p, nil
	})
}

func parseAll[T any](text string, to *[]T, parse func(string) (T, error)) error {
	for item := range strings.SplitSeq(text, ",") {
		value, err := parse(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		*to = append(*to, value)
	}
	return nil
}

func joinText[T fmt.Stringer](values []T) string {
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = v.String()
	}
	return strings.Join(text, ",")
}
