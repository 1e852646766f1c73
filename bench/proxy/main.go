// SPDX-License-Identifier: Apache-2.0

// Command proxy measures the service proxy beside kube-proxy in both its modes,
// and beside connections that go straight to a pod: how fast connections are,
// what a packet costs, and how soon Services are programmed. All sides are nodes
// made of network namespaces in one sandbox, with the same pods and the same API.
// It prints a table and writes bench/out/proxy.json and a plot beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bench/report"
	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/internal/version"
)

// config is what the user may choose.
type config struct {
	out   string
	peers string
	note  string
	plan
	// part and order are for processes of the benchmark.
	part, order bool
}

func main() {
	cfg := config{plan: plan{Sizes: []int{10, 1000, 10000, 30000}, Cold: shape{10000, 10}}}
	flag.StringVar(&cfg.out, "out", "bench/out/proxy.json", "where the result goes")
	flag.StringVar(&cfg.peers, "peers", ".build/peers", "directory of kube-proxy")
	flag.StringVar(&cfg.note, "note", "", "what readers of the result must know, such as other load on the machine")
	flag.Func("sizes", "numbers of Services, comma-separated and ascending (default 10,1000,10000,30000)", cfg.parseSizes)
	flag.IntVar(&cfg.Rounds, "rounds", 5, "how often each load is put on each side")
	flag.DurationVar(&cfg.Time, "time", time.Second, "how long each load lasts")
	flag.IntVar(&cfg.ColdRounds, "cold-rounds", 3, "how often our side programs everything from cold")
	flag.IntVar(&cfg.PeerColdRounds, "peer-cold-rounds", 1, "how often each of the others does")
	flag.DurationVar(&cfg.Limit, "limit", 5*time.Minute, "how long a side may take to program everything; one that does not is left out")
	flag.IntVar(&cfg.Cold.Services, "cold-services", cfg.Cold.Services, "how many Services are programmed from cold, with 10 endpoints each")
	flag.IntVar(&cfg.Changes, "changes", 200, "how many changes of an endpoint are timed on our side")
	flag.IntVar(&cfg.PeerChanges, "peer-changes", 30, "how many on each of the others")
	flag.BoolVar(&cfg.part, "part", false, "for the benchmark itself")
	flag.BoolVar(&cfg.order, "order", false, "for the benchmark itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

func (c *config) parseSizes(text string) error {
	c.Sizes = nil
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(one)
		if err != nil {
			return err
		}
		c.Sizes = append(c.Sizes, n)
	}
	return nil
}

func run(ctx context.Context, cfg config) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	switch {
	case cfg.order:
		var o order
		if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		return obey(ctx, o)
	case cfg.part:
		found, err := measure(ctx, cfg.plan)
		return errors.Join(err, sandbox.Finish(found))
	}
	if err := cfg.validate(); err != nil {
		return err
	}
	found, err := measureApart(ctx, cfg)
	if err != nil {
		return err
	}
	return tell(cfg, found)
}

func (c config) validate() error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces need root")
	}
	if c.Rounds < 1 || c.Changes < 1 || c.PeerChanges < 1 {
		return fmt.Errorf("-rounds %d, -changes %d, -peer-changes %d: expected at least 1 of each", c.Rounds, c.Changes, c.PeerChanges)
	}
	for i, n := range c.Sizes {
		if n < 1 || n > 60000 || i > 0 && n <= c.Sizes[i-1] {
			return fmt.Errorf("-sizes %v: expected ascending numbers from 1 to 60000", c.Sizes)
		}
	}
	if c.Cold.Services < 1 || c.Cold.Services > 10000 {
		return fmt.Errorf("-cold-services %d: expected 1 to 10000", c.Cold.Services)
	}
	if _, err := os.Stat(filepath.Join(c.peers, "kube-proxy")); err != nil {
		return fmt.Errorf("%w: run `make bench-proxy`", err)
	}
	return nil
}

// measureApart does the whole measurement in one sandbox.
func measureApart(ctx context.Context, cfg config) (results, error) {
	var found results
	dir, err := os.MkdirTemp("/var/tmp", "slipway-bench-")
	if err != nil {
		return found, err
	}
	p := cfg.plan
	sizes := strings.Trim(strings.ReplaceAll(fmt.Sprint(p.Sizes), " ", ","), "[]")
	err = sandbox.Run(ctx, sandbox.Config{Dir: dir, Mounts: map[string]string{"peers": cfg.peers}, Log: os.Stderr}, &found,
		"-part", "-sizes="+sizes, fmt.Sprint("-rounds=", p.Rounds), fmt.Sprint("-time=", p.Time), fmt.Sprint("-cold-rounds=", p.ColdRounds),
		fmt.Sprint("-peer-cold-rounds=", p.PeerColdRounds), fmt.Sprint("-limit=", p.Limit),
		fmt.Sprint("-cold-services=", p.Cold.Services), fmt.Sprint("-changes=", p.Changes), fmt.Sprint("-peer-changes=", p.PeerChanges))
	return found, errors.Join(err, os.RemoveAll(dir))
}

// tell prints and writes what was found.
func tell(cfg config, found results) error {
	rows := found.rows(cfg.plan)
	if err := report.Print(os.Stdout, rows); err != nil {
		return err
	}
	about := report.Here()
	about.Rounds, about.Note = cfg.Rounds, strings.TrimSpace(strings.Join(append(found.Missing, cfg.note), " "))
	about.Versions = []report.Version{
		{Name: "Slipway", Version: toolVersion("bin/slipway-agent")}, {Name: "kube-proxy", Version: version.Kubernetes},
		{Name: "iptables", Version: toolVersion(legacy, "iptables")}, {Name: "nft", Version: toolVersion("nft")},
	}
	if err := report.Write(cfg.out, about, rows); err != nil {
		return err
	}
	picture := strings.TrimSuffix(cfg.out, ".json") + ".svg"
	return os.WriteFile(picture, []byte(found.plot()), 0o644)
}

// toolVersion takes the number out of what a program says of itself.
func toolVersion(program string, args ...string) string {
	out, err := exec.Command(program, append(args, "--version")...).Output()
	words := strings.Fields(string(out))
	at := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "0123456789") })
	if err != nil || at < 0 {
		return "unknown"
	}
	return strings.TrimRight(strings.Join(words[at:min(at+2, len(words))], " "), ",")
}
