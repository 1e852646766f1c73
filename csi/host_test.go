// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi"
	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/csi/mount"
	"slipway.dev/slipway/internal/roottest"
)

const mib = 1 << 20

// host is a machine for one test: directories of its own and a driver that
// can be stopped and started.
type host struct {
	csipb.ControllerClient
	csipb.NodeClient
	t       testing.TB
	config  csi.Config
	driver  *csi.Driver
	conn    *grpc.ClientConn
	stop    func()
	kubelet string
}

// newHost starts a driver. Everything it leaves is removed with the test,
// which fails when that is not possible.
func newHost(t testing.TB) *host {
	t.Helper()
	roottest.Require(t)
	dir := tempDir(t)
	return startHost(t, filepath.Join(dir, "root"), filepath.Join(dir, "kubelet"))
}

func startHost(t testing.TB, root, kubelet string) *host {
	t.Helper()
	h := &host{t: t, kubelet: kubelet, config: csi.Config{
		NodeName: "node-a", Root: root, KubeletRoot: kubelet, Version: "test",
		Log: slog.New(slog.DiscardHandler),
	}}
	t.Cleanup(func() {
		h.stopDriver()
		if err := csi.Clean(root, kubelet, true); err != nil {
			t.Errorf("clean: %v", err)
		}
		if left := h.loops(); len(left) > 0 {
			t.Errorf("loop devices left: %v", left)
		}
	})
	h.startDriver()
	return h
}

// tempDir is a directory with a short name, so that socket paths fit.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (h *host) startDriver() {
	h.t.Helper()
	driver, err := csi.New(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- driver.Run(ctx) }()
	h.driver = driver
	socket := filepath.Join(h.kubelet, "plugins", csi.DriverName, "csi.sock")
	h.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, MaxDelay: 100 * time.Millisecond, Multiplier: 2}}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.ControllerClient, h.NodeClient = csipb.NewControllerClient(h.conn), csipb.NewNodeClient(h.conn)
	h.stop = func() {
		h.conn.Close()
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("driver: %v", err)
		}
	}
	roottest.Eventually(h.t, 10*time.Second, func() error {
		_, err := csipb.NewIdentityClient(h.conn).Probe(h.t.Context(), &csipb.ProbeRequest{})
		return err
	})
}

func (h *host) stopDriver() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

func (h *host) restartDriver() {
	h.t.Helper()
	h.stopDriver()
	h.startDriver()
}

// loops returns the loop devices with an image below the root.
func (h *host) loops() []loop.Info {
	h.t.Helper()
	all, err := loop.List()
	if err != nil {
		h.t.Fatal(err)
	}
	var ours []loop.Info
	for _, info := range all {
		if strings.HasPrefix(info.Image, h.config.Root+"/") {
			ours = append(ours, info)
		}
	}
	return ours
}

func (h *host) staging() string { return filepath.Join(h.kubelet, "staging") }

func (h *host) target(name string) string { return filepath.Join(h.kubelet, "pods", name, "mount") }

func capability(mode csipb.VolumeCapability_AccessMode_Mode, fsType string, flags ...string) *csipb.VolumeCapability {
	return &csipb.VolumeCapability{
		AccessType: &csipb.VolumeCapability_Mount{Mount: &csipb.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
		AccessMode: &csipb.VolumeCapability_AccessMode{Mode: mode},
	}
}

func writer() *csipb.VolumeCapability {
	return capability(csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, "")
}

func (h *host) create(name string, bytes int64) (*csipb.Volume, error) {
	r, err := h.CreateVolume(h.t.Context(), &csipb.CreateVolumeRequest{
		Name:               name,
		CapacityRange:      &csipb.CapacityRange{RequiredBytes: bytes},
		VolumeCapabilities: []*csipb.VolumeCapability{writer()},
	})
	return r.GetVolume(), err
}

func (h *host) stage(id string, c *csipb.VolumeCapability) error {
	_, err := h.NodeStageVolume(h.t.Context(), &csipb.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: h.staging(), VolumeCapability: c,
	})
	return err
}

func (h *host) publish(id, pod string, c *csipb.VolumeCapability, readOnly bool) error {
	_, err := h.NodePublishVolume(h.t.Context(), &csipb.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: h.staging(), TargetPath: h.target(pod), VolumeCapability: c, Readonly: readOnly,
	})
	return err
}

func (h *host) unpublish(id, pod string) error {
	_, err := h.NodeUnpublishVolume(h.t.Context(), &csipb.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: h.target(pod)})
	return err
}

func (h *host) unstage(id string) error {
	_, err := h.NodeUnstageVolume(h.t.Context(), &csipb.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.staging()})
	return err
}

func (h *host) remove(id string) error {
	_, err := h.DeleteVolume(h.t.Context(), &csipb.DeleteVolumeRequest{VolumeId: id})
	return err
}

// mounted makes a volume and publishes it for pod "a".
func (h *host) mounted(name string, bytes int64) *csipb.Volume {
	h.t.Helper()
	v, err := h.create(name, bytes)
	must(h.t, err)
	must(h.t, h.stage(v.VolumeId, writer()))
	must(h.t, h.publish(v.VolumeId, "a", writer(), false))
	return v
}

// unmounted undoes mounted, but the volume stays.
func (h *host) unmounted(id string) {
	h.t.Helper()
	must(h.t, h.unpublish(id, "a"))
	must(h.t, h.unstage(id))
}

func (h *host) write(pod, name, content string) {
	h.t.Helper()
	must(h.t, os.WriteFile(filepath.Join(h.target(pod), name), []byte(content), 0o600))
}

func (h *host) wantContent(pod, name, want string) {
	h.t.Helper()
	got, err := os.ReadFile(filepath.Join(h.target(pod), name))
	must(h.t, err)
	if string(got) != want {
		h.t.Errorf("content of %s is %q, want %q", name, got, want)
	}
}

// image is the path of a volume's image.
func (h *host) image(id string) string {
	h.t.Helper()
	handle, err := backend.ParseHandle(id)
	must(h.t, err)
	return filepath.Join(h.config.Root, "volumes", string(handle.ID), "image")
}

// wantEmpty fails unless the directory below the root has no entries.
func (h *host) wantEmpty(dir string) {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.config.Root, dir))
	must(h.t, err)
	if len(entries) > 0 {
		h.t.Errorf("%s has %v", dir, entries)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("code is %s (%v), want %s", got, err, want)
	}
}

// smallDisk mounts an ext4 of so many bytes and returns where.
func smallDisk(t testing.TB, bytes int64) string {
	t.Helper()
	roottest.Require(t)
	dir := tempDir(t)
	image, at := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	f, err := os.Create(image)
	must(t, err)
	must(t, errors.Join(f.Truncate(bytes), f.Close(), os.Mkdir(at, 0o755)))
	device := formatted(t, image)
	defer device.Close()
	must(t, mount.Table{}.Mount(device.Path(), at, "ext4", nil))
	t.Cleanup(func() {
		if err := (mount.Table{}).Unmount(at); err != nil {
			t.Error(err)
		}
	})
	return at
}

func freeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
