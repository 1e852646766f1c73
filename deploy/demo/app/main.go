// SPDX-License-Identifier: Apache-2.0

// Command app is the demo's web application: it tells which pod answered and
// keeps files on a volume. It takes no more of each than the demo needs; the
// files are open to everybody who reaches it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	cfg := config{log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flag.StringVar(&cfg.listen, "listen", ":8080", "address to serve HTTP on")
	flag.StringVar(&cfg.data, "data", "/data", "directory to keep files in")
	flag.DurationVar(&cfg.drain, "drain", 3*time.Second, "how long to go on serving after the first signal to end, so that nobody is sent here any more")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

type config struct {
	listen, data string
	drain        time.Duration
	log          *slog.Logger
}

// run serves until ctx ends, then lets requests in flight finish.
func run(ctx context.Context, cfg config) error {
	pod, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find pod name: %w", err)
	}
	data, err := os.OpenRoot(cfg.data)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	defer data.Close()
	app := &application{pod: pod, data: data, log: cfg.log}
	server := &http.Server{
		Addr:              cfg.listen,
		Handler:           app.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	cfg.log.Info("serving", "address", cfg.listen, "pod", pod)
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	app.ending.Store(true)
	time.Sleep(cfg.drain)
	cfg.log.Info("ending")
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return fmt.Errorf("finish requests: %w", err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
