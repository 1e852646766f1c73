// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/internal/image"
	"slipway.dev/slipway/internal/payload"
)

// upstream is the peer: the upstream programs, each a process of its own.
type upstream struct {
	runtime *program
	// cluster are all programs besides the container runtime.
	cluster []*program
	// later ends when those of them that wait for the API have been started.
	later chan error
}

const (
	peerDir = "/var/lib/peer"
	peerRun = "/run/peer"
	// criSocket is where `slipway images --run-dir` looks for containerd.
	criSocket = peerRun + "/containerd/containerd.sock"
)

func (u *upstream) kubeconfig() string { return pkiPath("admin.kubeconfig") }

// prepare does what an administrator has done before: certificates, files of
// configuration, and the image of the sandbox in containerd's store.
func (u *upstream) prepare(ctx context.Context) error {
	for _, dir := range []string{peerDir + "/bin", peerDir + "/etcd", peerRun + "/etcd", peerRun + "/containerd", cniConfDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := makeCertificates(); err != nil {
		return err
	}
	if err := payload.Extract(filepath.Join(peerDir, "bin"), "containerd-shim-runc-v2"); err != nil {
		return err
	}
	if err := writeConfigs(); err != nil {
		return err
	}
	u.runtime = &program{name: "containerd", argv: []string{slipwayBinary, "containerd", "--config", peerDir + "/containerd.toml", "--log-level", "warn"}}
	all := arguments()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		path := filepath.Join(sandbox.Programs, "peers", name)
		if err := warm(path); err != nil {
			return err
		}
		u.cluster = append(u.cluster, &program{name: name, argv: append([]string{path}, all[name]...)})
	}
	return errors.Join(warm(slipwayBinary), u.loadImage(ctx))
}

// loadImage starts containerd for as long as that takes.
func (u *upstream) loadImage(ctx context.Context) error {
	pause, err := payload.Read("pause")
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	if err := image.Write(&archive, image.Spec{
		Name:       podImage,
		Files:      []image.File{{Path: "/pause", Mode: 0o755, Bytes: pause}},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
	}); err != nil {
		return err
	}
	if err := u.runtime.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = poll(ctx, func() error {
		load := exec.CommandContext(ctx, slipwayBinary, "images", "load", "--run-dir="+peerRun, "-")
		load.Stdin = bytes.NewReader(archive.Bytes())
		if out, err := load.CombinedOutput(); err != nil {
			return fmt.Errorf("load image: %w: %s", err, out)
		}
		return nil
	})
	u.runtime.terminate()
	return errors.Join(err, u.runtime.wait())
}

// start starts what can wait for the others by itself, and the rest when the
// API is ready: a unit of systemd would have that condition, as the controllers
// and the scheduler give up on an API that does not know their roles yet.
func (u *upstream) start() error {
	var errs []error
	if !u.runtime.running() {
		errs = append(errs, u.runtime.start())
	}
	for _, p := range u.cluster {
		if !afterAPI[p.name] {
			errs = append(errs, p.start())
		}
	}
	u.later = make(chan error, 1)
	go func() { u.later <- u.startLater() }()
	return errors.Join(errs...)
}

var afterAPI = map[string]bool{"kube-controller-manager": true, "kube-scheduler": true, "kube-proxy": true}

func (u *upstream) startLater() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	_, err := waitAPI(ctx, u.kubeconfig())
	for _, p := range u.cluster {
		if afterAPI[p.name] {
			err = errors.Join(err, p.start())
		}
	}
	return err
}

// stop stops etcd last, so that the others can say goodbye.
func (u *upstream) stop() error {
	errs := []error{<-u.later}
	var etcd *program
	for _, p := range u.cluster {
		if p.name == "etcd" {
			etcd = p
			continue
		}
		p.terminate()
	}
	for _, p := range u.cluster {
		if p != etcd {
			errs = append(errs, p.wait())
		}
	}
	etcd.terminate()
	return errors.Join(append(errs, etcd.wait())...)
}
