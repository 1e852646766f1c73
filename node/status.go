// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/node/containerd"
)

// Check is one line of `slipway status` and `slipway check`.
type Check struct {
	// Name is the component.
	Name string `json:"name"`
	// OK tells whether it does its work.
	OK bool `json:"ok"`
	// Note tells that it does its work, but that there is something to know.
	Note bool `json:"note,omitempty"`
	// Mode is how a feature of the kernel is had: "native", or by a "fallback".
	Mode string `json:"mode,omitempty"`
	// Says is its state in words.
	Says string `json:"says"`
	// Do is what the user can do when it is not OK, or about a note.
	Do string `json:"do,omitempty"`
}

// probe answers one check from inside the running process.
type probe func(context.Context) Check

// Status tells the health of every component of the node. It asks the running
// process; when none runs it tells what is left of the node.
func Status(ctx context.Context, cfg Config) []Check {
	holder, alive := Holder(cfg)
	if !alive {
		return statusWithoutProcess(cfg)
	}
	checks, err := askStatus(ctx, cfg)
	if err != nil {
		return []Check{{
			Name: "slipway", Says: fmt.Sprintf("process %d does not answer: %v", holder.PID, err),
			Do: "wait for the start to finish, or read " + cfg.LogFile(),
		}}
	}
	first := Check{Name: "slipway", OK: true, Says: fmt.Sprintf("%s runs as process %d", version.Version, holder.PID)}
	return append([]Check{first}, checks...)
}

// ContainerdPid returns the process id of the node's container runtime, 0 when
// it does not run.
func ContainerdPid(cfg Config) int { return containerd.Pid(cfg.containerd()) }

func statusWithoutProcess(cfg Config) []Check {
	checks := []Check{{Name: "slipway", Says: "not running", Do: "start it with `slipway up`; the log is " + cfg.LogFile()}}
	if pid := ContainerdPid(cfg); pid != 0 {
		checks = append(checks, Check{Name: "containerd", OK: true, Says: fmt.Sprintf("process %d; pods go on running", pid)})
	}
	if links, err := os.ReadDir(cfg.PinDir()); err == nil && len(links) > 0 {
		checks = append(checks, Check{Name: "data path", OK: true, Says: "pinned in the kernel; Services and pods keep their traffic"})
	}
	return checks
}

func askStatus(ctx context.Context, cfg Config) ([]Check, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", cfg.statusSock())
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://slipway/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var checks []Check
	if err := json.NewDecoder(resp.Body).Decode(&checks); err != nil {
		return nil, fmt.Errorf("decode status: %w", err)
	}
	return checks, nil
}

// serveStatus answers status requests on the node's unix socket.
func (m *member) serveStatus(ctx context.Context) error {
	listener, err := listenUnix(m.cfg.statusSock())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 8*time.Second)
		defer cancel()
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(m.checks(ctx)); err != nil {
			m.log.Warn("write status", "err", err)
		}
	})
	mux.Handle("GET /metrics", m.metrics())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve status: %w", err)
	}
	return nil
}

// listenUnix listens on a socket that only root may use, in place of one left
// by a process that was killed.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove stale socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("protect socket: %w", err)
	}
	return listener, nil
}

// checks runs all probes at once and returns the answers in order.
func (m *member) checks(ctx context.Context) []Check {
	m.mu.Lock()
	probes := append([]probe{m.checkContainerd}, m.probes...)
	m.mu.Unlock()
	out := make([]Check, len(probes))
	done := make(chan struct{})
	for i, p := range probes {
		go func() {
			out[i] = p(ctx)
			done <- struct{}{}
		}()
	}
	for range probes {
		<-done
	}
	return out
}

func (m *member) addProbe(p ...probe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probes = append(m.probes, p...)
}

func (m *member) checkContainerd(context.Context) Check {
	pid := ContainerdPid(m.cfg)
	if pid == 0 {
		return Check{Name: "containerd", Says: "not running", Do: "it is started again by itself; read " + m.cfg.containerd().LogFile}
	}
	return Check{Name: "containerd", OK: true, Says: fmt.Sprintf("runs as process %d", pid)}
}
