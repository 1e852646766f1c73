// SPDX-License-Identifier: Apache-2.0

// Command app is the application that the end-to-end tests run in pods and on
// the host: a server that tells its name, a client, a load, and what else a
// test wants to know from inside a container that has no shell.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"slipway.dev/slipway/test/e2e/talk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	verbs := map[string]func(context.Context, []string, io.Writer) error{
		"serve": serve, "ask": ask, "load": load, "lookup": lookup, "api": api,
		"write": write, "read": read, "fill": fill,
	}
	if len(args) == 0 || verbs[args[0]] == nil {
		return errors.New("expected a verb: serve, ask, load, lookup, api, write, read or fill")
	}
	return verbs[args[0]](ctx, args[1:], out)
}

// serve tells its name until it is stopped.
func serve(ctx context.Context, args []string, out io.Writer) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	name := flags.String("name", host, "name to tell")
	web := flags.String("http", ":8080", "address for HTTP")
	echo := flags.String("echo", ":9000", "address for TCP and UDP")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := talk.Listen(*name, *web, *echo)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "serving as", *name)
	return server.Serve(ctx)
}

// ask prints the answers of the targets.
func ask(_ context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	n := flags.Int("n", 1, "how often to ask each target")
	if err := flags.Parse(args); err != nil {
		return err
	}
	targets, err := parseTargets(flags.Args())
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(talk.Ask(targets, *n))
}

func parseTargets(args []string) ([]talk.Target, error) {
	var targets []talk.Target
	for _, arg := range args {
		t, err := talk.ParseTarget(arg)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}
