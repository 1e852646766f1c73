// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// load puts a load on the targets. GET / tells the counts, POST /stop ends the
// load and tells the final ones; it prints them when it is stopped.
func load(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	control := flags.String("control", ":8081", "address to ask for the counts")
	workers := flags.Int("workers", 2, "workers of each kind for each target")
	pause := flags.Duration("pause", 10*time.Millisecond, "pause of a worker between two requests")
	if err := flags.Parse(args); err != nil {
		return err
	}
	targets, err := parseTargets(flags.Args())
	if err != nil {
		return err
	}
	l := &talk.Load{Targets: targets, Workers: *workers, Pause: *pause}
	loading, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(loading)
	}()
	tell := func(w io.Writer) error { return json.NewEncoder(w).Encode(l.Counts()) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { tell(w) })
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		end()
		<-ended
		tell(w)
	})
	server := http.Server{Addr: *control, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ended
	return tell(out)
}
