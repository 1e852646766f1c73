// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/csi/loopfile"
	"slipway.dev/slipway/csi/mount"
	"slipway.dev/slipway/csi/server"
	"slipway.dev/slipway/internal/roottest"
)

// victimEnv carries the directory to the process that gets killed.
const victimEnv = "SLIPWAY_CSI_VICTIM"

func TestRootDriverRestart(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-restart", 32*mib)
	h.write("a", "name", "before")
	open, err := os.OpenFile(filepath.Join(h.target("a"), "open"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	h.stopDriver()
	h.wantContent("a", "name", "before")
	_, err = open.WriteString("written without a driver")
	must(t, errors.Join(err, open.Sync(), open.Close()))
	h.startDriver()
	must(t, h.stage(v.VolumeId, writer()))
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	if n := len(h.loops()); n != 1 {
		t.Errorf("%d loop devices, want 1", n)
	}
	h.unmounted(v.VolumeId)
}

// TestRootReboot takes all mounts and devices away behind the driver's back.
func TestRootReboot(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-reboot", 32*mib)
	h.write("a", "name", "before")
	h.stopDriver()
	for _, path := range []string{h.target("a"), h.staging()} {
		must(t, mount.Table{}.UnmountLazy(path))
	}
	for _, d := range h.loops() {
		must(t, loop.Detach(d.Number))
	}
	if left := h.loops(); len(left) > 0 {
		t.Fatalf("still attached: %v", left)
	}
	h.startDriver()
	wantCode(t, h.publish(v.VolumeId, "a", writer(), false), codes.FailedPrecondition)
	must(t, h.stage(v.VolumeId, writer()))
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	h.wantContent("a", "name", "before")
}

// TestRootAttachedNotMounted finds the volume attached by somebody who never
// mounted it, as another mount namespace may have: no second device is made.
func TestRootAttachedNotMounted(t *testing.T) {
	h := newHost(t)
	v, err := h.create("pvc-attached", 32*mib)
	must(t, err)
	device, err := loop.Attach(t.Context(), h.image(v.VolumeId))
	must(t, err)
	wantCode(t, h.remove(v.VolumeId), codes.FailedPrecondition)
	must(t, h.stage(v.VolumeId, writer()))
	must(t, device.Close())
	if n := len(h.loops()); n != 1 {
		t.Errorf("%d loop devices, want 1", n)
	}
	must(t, h.unstage(v.VolumeId))
	if left := h.loops(); len(left) > 0 {
		t.Errorf("attached after unstage: %v", left)
	}
}

// TestRootHalfReadOnly dies between the two steps of a read-only publish.
func TestRootHalfReadOnly(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-half", 32*mib)
	must(t, os.MkdirAll(h.target("b"), 0o750))
	must(t, mount.Table{}.Bind(h.staging(), h.target("b")))
	must(t, h.publish(v.VolumeId, "b", writer(), true))
	if err := os.WriteFile(filepath.Join(h.target("b"), "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write gives %v, want %v", err, unix.EROFS)
	}
}

// TestRootLeftovers starts with what a create and a delete leave when they
// are cut off.
func TestRootLeftovers(t *testing.T) {
	h := newHost(t)
	h.stopDriver()
	for _, dir := range []string{"creating/pvc-new", "deleting/pvc-old"} {
		dir = filepath.Join(h.config.Root, dir)
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "image"), make([]byte, mib), 0o600))
	}
	h.startDriver()
	h.wantEmpty("creating")
	h.wantEmpty("deleting")
	_, err := h.create("pvc-new", 32*mib)
	must(t, err)
}

func TestRootUncleanFileSystem(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-unclean", 32*mib)
	h.write("a", "name", "before")
	must(t, syncFS(h.target("a")))
	// The image as it is now, mounted and with a journal to replay, is
	// what a power failure leaves.
	data, err := os.ReadFile(h.image(v.VolumeId))
	must(t, err)
	h.unmounted(v.VolumeId)
	must(t, os.WriteFile(h.image(v.VolumeId), data, 0o600))
	must(t, h.stage(v.VolumeId, writer()))
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	h.wantContent("a", "name", "before")
}

func TestRootForeignMount(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-foreign", 32*mib)
	must(t, os.MkdirAll(h.target("b"), 0o750))
	must(t, unix.Mount("tmpfs", h.target("b"), "tmpfs", 0, "size=1m"))
	t.Cleanup(func() {
		if err := (mount.Table{}).Unmount(h.target("b")); err != nil {
			t.Error(err)
		}
	})
	wantCode(t, h.publish(v.VolumeId, "b", writer(), false), codes.FailedPrecondition)
	wantCode(t, h.unpublish("other@node-a", "elsewhere"), codes.OK)
}

// TestRootKill kills a process that makes, mounts and removes volumes at
// random instants, and wants a new driver to be able to go on every time.
func TestRootKill(t *testing.T) {
	roottest.Require(t)
	dir := tempDir(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 12 {
		killVictim(t, dir, time.Duration(5+random.IntN(250))*time.Millisecond)
		t.Run("recover", func(t *testing.T) { recoverVictim(t, dir) })
	}
}

// killVictim starts the process, waits until it works, and kills it later.
func killVictim(t *testing.T, dir string, later time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	timer := time.AfterFunc(later, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	if status := cmd.ProcessState.Sys().(interface{ Signaled() bool }); !status.Signaled() {
		t.Errorf("victim ended by itself: %s", cmd.ProcessState)
	}
}

// recoverVictim goes on where the victim died: its mounts are ours to reuse.
func recoverVictim(t *testing.T, dir string) {
	h := startHost(t, filepath.Join(dir, "root"), filepath.Join(dir, "kubelet"))
	h.wantEmpty("creating")
	h.wantEmpty("deleting")
	attached := len(h.loops())
	v, err := h.create("pvc-victim", 16*mib)
	must(t, err)
	// A check of the file system that the victim began may still hold the device; as
	// the kubelet does, try again.
	roottest.Eventually(t, 10*time.Second, func() error { return h.stage(v.VolumeId, writer()) })
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	if attached > 1 || len(h.loops()) != 1 {
		t.Errorf("%d loop devices, then %d, want at most one", attached, len(h.loops()))
	}
	h.wantContentOf("a")
	h.unmounted(v.VolumeId)
	must(t, h.remove(v.VolumeId))
}

// TestVictim is the process that gets killed; it runs only for killVictim.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimEnv)
	if dir == "" {
		t.Skip("runs as a child of TestRootKill")
	}
	pool, err := loopfile.New(loopfile.Config{Root: filepath.Join(dir, "root")})
	must(t, err)
	log := slog.New(slog.DiscardHandler)
	s, err := server.New(server.Config{NodeName: "node-a", Backend: pool, Mounts: mount.Table{}, Check: filesystem.Check, Log: log})
	must(t, err)
	fmt.Println("working")
	for {
		must(t, cycle(t.Context(), s, filepath.Join(dir, "kubelet")))
	}
}

// cycle is the life of one volume.
func cycle(ctx context.Context, s *server.Server, kubelet string) error {
	staging, target := filepath.Join(kubelet, "staging"), filepath.Join(kubelet, "pods", "a", "mount")
	r, err := s.Controller().CreateVolume(ctx, &csipb.CreateVolumeRequest{
		Name: "pvc-victim", CapacityRange: &csipb.CapacityRange{RequiredBytes: 16 * mib},
		VolumeCapabilities: []*csipb.VolumeCapability{writer()},
	})
	if err != nil {
		return err
	}
	id, n := r.Volume.VolumeId, s.Node()
	if _, err := n.NodeStageVolume(ctx, &csipb.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: writer()}); err != nil {
		return err
	}
	if _, err := n.NodePublishVolume(ctx, &csipb.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: writer()}); err != nil {
		return err
	}
	if _, err := n.NodeUnpublishVolume(ctx, &csipb.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target}); err != nil {
		return err
	}
	if _, err := n.NodeUnstageVolume(ctx, &csipb.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging}); err != nil {
		return err
	}
	_, err = s.Controller().DeleteVolume(ctx, &csipb.DeleteVolumeRequest{VolumeId: id})
	return err
}
