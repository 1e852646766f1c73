// SPDX-License-Identifier: Apache-2.0

// Command cluster measures a whole cluster on one machine: how soon it is
// there, what it costs when nothing happens, and how fast its API is. Slipway
// and the upstream programs of the same version take turns, each time in a
// sandbox of their own. It prints a table and writes bench/out/cluster.json.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bench/report"
	"slipway.dev/slipway/bench/sandbox"
)

// config is what the user may choose.
type config struct {
	out    string
	bin    string
	peers  string
	dir    string
	rounds int
	note   string
	// part is set in a sandbox only: the side to measure.
	part string
	idle time.Duration
}

func main() {
	var cfg config
	flag.StringVar(&cfg.out, "out", "bench/out/cluster.json", "where the result goes")
	flag.StringVar(&cfg.bin, "bin", "bin", "directory of slipway")
	flag.StringVar(&cfg.peers, "peers", ".build/peers", "directory of the upstream programs")
	flag.StringVar(&cfg.dir, "dir", "/var/tmp", "directory on a real disk for the data of the clusters")
	flag.IntVar(&cfg.rounds, "rounds", 3, "how often each side is measured")
	flag.DurationVar(&cfg.idle, "idle", 5*time.Minute, "how long to watch the idle cluster")
	flag.StringVar(&cfg.note, "note", "", "what readers of the result must know, such as other load on the machine")
	flag.StringVar(&cfg.part, "part", "", "for the benchmark itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	if cfg.part != "" {
		result, err := measure(ctx, cfg.part, cfg.idle)
		if err != nil {
			return errors.Join(err, tails("/var/log/bench"))
		}
		return sandbox.Finish(result)
	}
	if err := cfg.validate(); err != nil {
		return err
	}
	results, err := takeTurns(ctx, cfg)
	if err != nil {
		return err
	}
	rows := results.rows()
	if err := report.Print(os.Stdout, rows); err != nil {
		return err
	}
	about := report.Here()
	about.Versions, about.Rounds, about.Note = versions(cfg), cfg.rounds, cfg.note
	return report.Write(cfg.out, about, rows)
}

func (c config) validate() error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces need root")
	}
	if c.rounds < 1 {
		return fmt.Errorf("-rounds %d: expected at least 1", c.rounds)
	}
	for _, path := range []string{filepath.Join(c.bin, "slipway"), filepath.Join(c.peers, "kubelet")} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: run `make bench-cluster`", err)
		}
	}
	return checkDisk(c.dir)
}

// minFree is the share of a file system below which both kubelets evict pods.
const minFree = 0.05

func checkDisk(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("-dir %s: %w", dir, err)
	}
	if free := float64(st.Bavail) / float64(st.Blocks); free < minFree {
		return fmt.Errorf("-dir %s: %.1f %% of the file system is free, expected at least %.0f %%: kubelets evict pods below that",
			dir, 100*free, 100*minFree)
	}
	return nil
}

// results are those of all rounds.
type results struct{ ours, peer []result }

// takeTurns measures both sides in each round. Who begins alternates.
func takeTurns(ctx context.Context, cfg config) (results, error) {
	var all results
	for round := range cfg.rounds {
		order := []string{partOurs, partPeer}
		if round%2 == 1 {
			order = []string{partPeer, partOurs}
		}
		for _, part := range order {
			one, err := measureApart(ctx, cfg, part)
			if err != nil {
				return all, fmt.Errorf("round %d, %s: %w", round+1, part, err)
			}
			fmt.Fprintf(os.Stderr, "round %d, %s: %s\n", round+1, part, one)
			if part == partOurs {
				all.ours = append(all.ours, one)
			} else {
				all.peer = append(all.peer, one)
			}
		}
	}
	return all, nil
}

// measureApart measures one side in a sandbox.
func measureApart(ctx context.Context, cfg config, part string) (result, error) {
	var one result
	dir, err := os.MkdirTemp(cfg.dir, "slipway-bench-")
	if err != nil {
		return one, err
	}
	err = sandbox.Run(ctx, sandbox.Config{
		Dir: dir, Mounts: map[string]string{"bin": cfg.bin, "peers": cfg.peers}, Log: os.Stderr,
	}, &one, "-part="+part, "-idle="+cfg.idle.String())
	return one, errors.Join(err, os.RemoveAll(dir))
}
