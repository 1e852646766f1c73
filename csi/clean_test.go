// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"slipway.dev/slipway/csi"
	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/csi/mount"
	"slipway.dev/slipway/internal/roottest"
)

func TestRootClean(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-clean", 32*mib)
	h.write("a", "name", "before")
	if err := csi.Clean(h.config.Root, h.kubelet, true); err == nil {
		t.Error("clean beside a running driver must fail")
	}
	h.stopDriver()
	// A mount in use does not hold it up.
	must(t, os.MkdirAll(h.target("b"), 0o750))
	must(t, mount.Table{}.Bind(h.staging(), h.target("b")))

	for range 2 {
		must(t, csi.Clean(h.config.Root, h.kubelet, false))
	}
	if left := h.loops(); len(left) > 0 {
		t.Errorf("loop devices left: %v", left)
	}
	for _, path := range []string{h.staging(), h.target("a"), h.target("b")} {
		if entries, err := (mount.Table{}).At(path); err != nil || len(entries) > 0 {
			t.Errorf("mounts left at %s: %v (%v)", path, entries, err)
		}
	}
	if _, err := os.Stat(filepath.Join(h.kubelet, "plugins", csi.DriverName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket directory: %v, want it gone", err)
	}

	h.startDriver()
	must(t, h.stage(v.VolumeId, writer()))
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	h.wantContent("a", "name", "before")
	h.stopDriver()

	must(t, csi.Clean(h.config.Root, h.kubelet, true))
	if _, err := os.Stat(h.config.Root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("root after purge: %v, want it gone", err)
	}
}

// TestRootCleanKeepsUsed does not purge what somebody still has attached.
func TestRootCleanKeepsUsed(t *testing.T) {
	h := newHost(t)
	v, err := h.create("pvc-used", 32*mib)
	must(t, err)
	h.stopDriver()
	device, err := loop.Attach(t.Context(), h.image(v.VolumeId))
	must(t, err)
	if err := csi.Clean(h.config.Root, h.kubelet, true); !errors.Is(err, backend.ErrInUse) {
		t.Errorf("clean: %v, want %v", err, backend.ErrInUse)
	}
	if _, err := os.Stat(h.image(v.VolumeId)); err != nil {
		t.Error(err)
	}
	must(t, device.Close())
	must(t, csi.Clean(h.config.Root, h.kubelet, true))
}

func TestRootCleanNothing(t *testing.T) {
	roottest.Require(t)
	dir := tempDir(t)
	must(t, csi.Clean(filepath.Join(dir, "root"), filepath.Join(dir, "kubelet"), true))
}

func TestRootSockets(t *testing.T) {
	h := newHost(t)
	h.stopDriver()
	plugin := filepath.Join(h.kubelet, "plugins", csi.DriverName, "csi.sock")
	register := filepath.Join(h.kubelet, "plugins_registry", csi.DriverName+"-reg.sock")
	// The sockets of the stopped driver are there, and stale.
	for _, path := range []string{plugin, register} {
		if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, mode %v", path, err, info.Mode())
		}
	}
	h.startDriver()
	conn, err := grpc.NewClient("unix://"+register, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	client := registration.NewRegistrationClient(conn)
	info, err := client.GetInfo(t.Context(), &registration.InfoRequest{}, grpc.WaitForReady(true))
	must(t, err)
	if info.Type != registration.CSIPlugin || info.Name != csi.DriverName || info.Endpoint != plugin || len(info.SupportedVersions) == 0 {
		t.Errorf("registration: %v", info)
	}
	_, err = client.NotifyRegistrationStatus(t.Context(), &registration.RegistrationStatus{PluginRegistered: true})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(plugin, &st))
	if st.Mode&0o777 != 0o600 {
		t.Errorf("mode of %s is %o", plugin, st.Mode&0o777)
	}
}
