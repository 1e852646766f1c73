// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"slipway.dev/slipway/node/token"
)

const (
	// discoverTimeout bounds each request to a server that is not known yet.
	discoverTimeout = 5 * time.Second
	// maxSkew is how far the clocks of two machines may differ. Certificates
	// are valid from five minutes before they were made.
	maxSkew = 4 * time.Minute
	// usualPort is that of an API server when none is named.
	usualPort = "6443"
)

// clusterInfo is what a machine must know about its cluster; servers publish
// it in a ConfigMap.
type clusterInfo struct {
	PodCIDRs     []netip.Prefix `json:"podCIDRs"`
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs"`
	Domain       string         `json:"domain"`
	// Version is that of the server's Kubernetes.
	Version string `json:"version"`
}

// discovered is a cluster that a machine may join.
type discovered struct {
	authority []byte
	info      clusterInfo
}

// discover finds out whether the server is of the token's cluster and takes
// the token, whether the node's name is free there, and reads what a node must
// know. It trusts nothing that the server says before its authority has the
// hash in the token.
func discover(ctx context.Context, server string, t token.Token, nodeName string) (discovered, error) {
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	authority, err := pinnedAuthority(ctx, server, t)
	if err != nil {
		return discovered{}, err
	}
	found := discovered{authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})}
	client, err := tokenClient(server, t, found.authority)
	if err != nil {
		return discovered{}, err
	}
	if found.info, err = readClusterInfo(ctx, client, server, t); err != nil {
		return discovered{}, err
	}
	return found, checkName(ctx, client, nodeName)
}

// pinnedAuthority looks at the certificates that the server shows.
func pinnedAuthority(ctx context.Context, server string, t token.Token) (*x509.Certificate, error) {
	// What is shown is verified below, by hash.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("server %s does not answer: %w; is that its address, and does `slipway status` there say ok", server, err)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	authority := chain[len(chain)-1]
	if !authority.IsCA {
		return nil, fmt.Errorf("server %s shows no certificate authority: it is no Slipway server", server)
	}
	if have := token.Hash(authority); have != t.CAHash {
		return nil, fmt.Errorf("server %s shows the certificate authority %s, but the token is for %s: it is another cluster, or somebody is in between", server, have, t.CAHash)
	}
	if err := verifyServer(server, chain, time.Now()); err != nil {
		return nil, err
	}
	return authority, nil
}

// verifyServer checks the server's certificate against the authority that it
// came with.
func verifyServer(server string, chain []*x509.Certificate, now time.Time) error {
	host, _, _ := net.SplitHostPort(server)
	roots := x509.NewCertPool()
	roots.AddCert(chain[len(chain)-1])
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("server %s: its certificate is valid from %s to %s, but the clock of this machine says %s: set the clock",
			server, chain[0].NotBefore.UTC().Format(time.RFC3339), chain[0].NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fmt.Errorf("server %s: %w", server, err)
	}
	return nil
}

// tokenClient has the rights of the token. It compares the clocks on the way.
func tokenClient(server string, t token.Token, authority []byte) (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://" + server, BearerToken: t.Bearer(), UserAgent: "slipway-join",
		TLSClientConfig: rest.TLSClientConfig{CAData: authority},
		WrapTransport: func(next http.RoundTripper) http.RoundTripper {
			return clockCheck{server, next}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", server, err)
	}
	return client, nil
}

// clockCheck fails requests to a server with another time.
type clockCheck struct {
	server string
	next   http.RoundTripper
}

func (c clockCheck) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := checkClock(c.server, resp.Header.Get("Date"), time.Now()); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// readClusterInfo reads the ConfigMap with the token's rights.
func readClusterInfo(ctx context.Context, client kubernetes.Interface, server string, t token.Token) (clusterInfo, error) {
	var object *corev1.ConfigMap
	err := insist(ctx, func(ctx context.Context) (err error) {
		object, err = client.CoreV1().ConfigMaps(infoNamespace).Get(ctx, infoName, metav1.GetOptions{})
		return err
	})
	switch {
	case err == nil:
		return parseClusterInfo(object.Data)
	case apierrors.IsUnauthorized(err):
		return clusterInfo{}, fmt.Errorf("server %s does not know token %s, or it has expired: make a new one there with `slipway token create`", server, t.ID)
	case apierrors.IsForbidden(err) || apierrors.IsNotFound(err):
		return clusterInfo{}, fmt.Errorf("server %s is no Slipway server, or has not finished its start: %w", server, err)
	default:
		return clusterInfo{}, fmt.Errorf("server %s: %w", server, err)
	}
}

// checkName refuses the name of a node that reports to the cluster: two
// machines of one name would fight for the Node object.
func checkName(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := getNode(ctx, client, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if isReady(node) == nil {
		return fmt.Errorf("a node named %s is Ready in the cluster already: choose another name with --node-name", name)
	}
	return nil
}

// errClock is a clock that differs too much for certificates to be valid.
var errClock = errors.New("set the clock of this machine")

// checkClock compares the clock of this machine with the server's.
func checkClock(server, date string, now time.Time) error {
	there, err := http.ParseTime(date)
	if err != nil {
		return nil // It says no time.
	}
	if skew := now.Sub(there); skew.Abs() > maxSkew {
		return fmt.Errorf("%w: it is %v off that of server %s (%s here)",
			errClock, skew.Round(time.Second), server, now.UTC().Format(time.RFC3339))
	}
	return nil
}

func parseClusterInfo(data map[string]string) (clusterInfo, error) {
	var info clusterInfo
	if err := json.Unmarshal([]byte(data[infoKey]), &info); err != nil {
		return info, fmt.Errorf("ConfigMap %s/%s, key %s: %w", infoNamespace, infoName, infoKey, err)
	}
	if len(info.PodCIDRs) == 0 || len(info.ServiceCIDRs) == 0 || info.Domain == "" {
		return info, fmt.Errorf("ConfigMap %s/%s, key %s: pod ranges, service ranges and domain must all be given", infoNamespace, infoName, infoKey)
	}
	return info, nil
}

// parseServer completes the address of a server: HOST, HOST:PORT or
// https://HOST:PORT.
func parseServer(text string) (string, error) {
	rest, _ := strings.CutPrefix(text, "https://")
	rest = strings.TrimSuffix(rest, "/")
	if addr, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		return net.JoinHostPort(addr.String(), usualPort), nil
	}
	if !strings.Contains(rest, ":") {
		rest += ":" + usualPort
	}
	host, port, err := net.SplitHostPort(rest)
	if err == nil && (host == "" || strings.ContainsAny(host, "/ ")) {
		err = errors.New("no host")
	}
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return "", fmt.Errorf("server %q: expected HOST, HOST:PORT or https://HOST:PORT", text)
	}
	return net.JoinHostPort(host, port), nil
}
