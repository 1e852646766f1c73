// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
)

// Table is what the L7 path serves from. It is never changed after it was
// made.
type Table struct {
	// hosts holds the routes of exact host names, lower case.
	hosts map[string]*routes
	// wildcards holds the routes of *.NAME under NAME.
	wildcards map[string]*routes
	// any holds the routes for every host.
	any routes
	// exactCerts and wildcardCerts are by server name, as hosts are.
	exactCerts, wildcardCerts map[string]*tls.Certificate
}

// routes are the paths of one host.
type routes struct {
	exact map[string]*Backend
	// prefixes are sorted, the longest first.
	prefixes []prefix
}

// prefix is a path prefix without its trailing slash; "" matches all paths.
type prefix struct {
	path    string
	backend *Backend
}

// Backend is the port of a Service that requests go to.
type Backend struct {
	// Service is NAMESPACE/NAME:PORT, for metrics and messages.
	Service string
	// Endpoints are the addresses that take requests, sorted.
	Endpoints []netip.AddrPort
}

// Match finds where a request goes, nil when nowhere: an exact host before a
// wildcard before any host, and in a host an exact path before the longest
// prefix, as the API reference of Ingress says. A host that has routes, but
// none for the path, does not fall through to a less specific host, except to
// the default backend.
func (t *Table) Match(host, path string) *Backend {
	host = normalHost(host)
	if r := t.hosts[host]; r != nil {
		if b := r.match(path); b != nil {
			return b
		}
		return t.any.fallback()
	}
	if label, parent, ok := strings.Cut(host, "."); ok && label != "" {
		if r := t.wildcards[parent]; r != nil {
			if b := r.match(path); b != nil {
				return b
			}
			return t.any.fallback()
		}
	}
	return t.any.match(path)
}

func (r *routes) match(path string) *Backend {
	if b := r.exact[path]; b != nil {
		return b
	}
	for _, p := range r.prefixes {
		if p.matches(path) {
			return p.backend
		}
	}
	return nil
}

// fallback is the backend of the empty prefix: a default backend, or the path
// "/" of a rule without a host.
func (r *routes) fallback() *Backend {
	if n := len(r.prefixes); n > 0 && r.prefixes[n-1].path == "" {
		return r.prefixes[n-1].backend
	}
	return nil
}

// matches compares element by element: /foo matches /foo and /foo/bar, not
// /foobar.
func (p prefix) matches(path string) bool {
	rest, ok := strings.CutPrefix(path, p.path)
	return ok && (rest == "" || rest[0] == '/')
}

// add enters a path, and tells whether it was new.
func (r *routes) add(path string, exact bool, b *Backend) bool {
	if exact {
		if r.exact == nil {
			r.exact = map[string]*Backend{}
		}
		if r.exact[path] != nil {
			return false
		}
		r.exact[path] = b
		return true
	}
	path = strings.TrimRight(path, "/")
	at, found := slices.BinarySearchFunc(r.prefixes, path, func(p prefix, path string) int {
		if d := len(path) - len(p.path); d != 0 {
			return d
		}
		return strings.Compare(p.path, path)
	})
	if found {
		return false
	}
	r.prefixes = slices.Insert(r.prefixes, at, prefix{path, b})
	return true
}

// certificate returns the one for a server name, nil when there is none.
func (t *Table) certificate(name string) *tls.Certificate {
	name = normalHost(name)
	if c := t.exactCerts[name]; c != nil {
		return c
	}
	if label, parent, ok := strings.Cut(name, "."); ok && label != "" {
		return t.wildcardCerts[parent]
	}
	return nil
}

// normalHost drops the port and the trailing dot, and lowers the case.
func normalHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
