// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// lookup prints the addresses of a name, one a line.
func lookup(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("expected: lookup ip|ip4|ip6 NAME")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	for _, addr := range found {
		fmt.Fprintln(out, addr.Unmap())
	}
	return nil
}

// account is where a pod finds its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// api asks the cluster's API with the pod's own token, by the name that every
// pod can use.
func api(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("expected: api PATH")
	}
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("no certificate in ca.crt")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://kubernetes.default.svc"+args[0], nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	fmt.Fprintln(out, response.Status)
	_, err = io.Copy(out, io.LimitReader(response.Body, 4096))
	return err
}
