// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/mount"
)

func stageRequest(dir string) *csi.NodeStageVolumeRequest {
	return &csi.NodeStageVolumeRequest{
		VolumeId: "pvc-1@node-a", StagingTargetPath: filepath.Join(dir, "staging"),
		VolumeCapability: mountCapability(singleNodeWriter, ""),
	}
}

func publishRequest(dir string) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "pvc-1@node-a", StagingTargetPath: filepath.Join(dir, "staging"), TargetPath: filepath.Join(dir, "target"),
		VolumeCapability: mountCapability(singleNodeWriter, ""), Readonly: true,
	}
}

// TestStageFails makes each step fail in turn; the device is let go and
// nothing is mounted.
func TestStageFails(t *testing.T) {
	for _, step := range []string{"attached", "attach", "check", "mount", "at"} {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t)
			f.backend.fail[step], f.mounts.fail[step] = errInjected, errInjected
			r := stageRequest(t.TempDir())
			if _, err := f.Node().NodeStageVolume(t.Context(), r); status.Code(err) != codes.Internal {
				t.Errorf("got %v", err)
			}
			opened := step == "check" || step == "mount"
			if len(f.mounts.entries) > 0 || opened != (f.backend.closed == 1) {
				t.Errorf("%d mounts, device closed %d times", len(f.mounts.entries), f.backend.closed)
			}
			clear(f.backend.fail)
			clear(f.mounts.fail)
			for range 2 {
				if _, err := f.Node().NodeStageVolume(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
			if len(f.mounts.entries) != 1 {
				t.Errorf("mounts: %+v, want one", f.mounts.entries)
			}
		})
	}
}

// TestStageChecksOnce does not check a file system that may be mounted.
func TestStageChecksOnce(t *testing.T) {
	f := newFixture(t)
	f.backend.attached["pvc-1"] = true
	if _, err := f.Node().NodeStageVolume(t.Context(), stageRequest(t.TempDir())); err != nil {
		t.Fatal(err)
	}
	if len(f.checked) != 0 {
		t.Errorf("checked %v, which was attached already", f.checked)
	}
}

// TestPublishFails makes each step fail in turn; no mount and no target stay.
func TestPublishFails(t *testing.T) {
	for _, step := range []string{"attached", "at", "bind", "read-only"} {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t)
			dir := t.TempDir()
			if _, err := f.Node().NodeStageVolume(t.Context(), stageRequest(dir)); err != nil {
				t.Fatal(err)
			}
			f.backend.fail[step], f.mounts.fail[step] = errInjected, errInjected
			if _, err := f.Node().NodePublishVolume(t.Context(), publishRequest(dir)); status.Code(err) != codes.Internal {
				t.Errorf("got %v", err)
			}
			if len(f.mounts.entries) != 1 {
				t.Errorf("mounts: %+v, want the staged one", f.mounts.entries)
			}
			if _, err := os.Stat(filepath.Join(dir, "target")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("target: %v, want it gone", err)
			}
		})
	}
}

func TestUnpublish(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o750); err != nil {
		t.Fatal(err)
	}
	// Mounted twice, as a driver without idempotence would.
	f.mounts.entries = []mount.Entry{{Path: target}, {Path: target}}
	r := &csi.NodeUnpublishVolumeRequest{VolumeId: "gone@node-a", TargetPath: target}
	for range 2 {
		if _, err := f.Node().NodeUnpublishVolume(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if len(f.mounts.entries) != 0 {
		t.Errorf("mounts left: %+v", f.mounts.entries)
	}
}

// TestUnpublishKeepsFiles never removes what it finds in a target.
func TestUnpublishKeepsFiles(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.Node().NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "pvc-1@node-a", TargetPath: dir})
	if status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Error(err)
	}
}

func TestNodeCodes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*csi.NodeStageVolumeRequest)
		want   codes.Code
	}{
		"no id":             {func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "" }, codes.InvalidArgument},
		"malformed id":      {func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "../../etc" }, codes.NotFound},
		"unknown id":        {func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "pvc-9@node-a" }, codes.NotFound},
		"other node":        {func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "pvc-1@node-b" }, codes.NotFound},
		"no path":           {func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "" }, codes.InvalidArgument},
		"relative path":     {func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "a/b" }, codes.InvalidArgument},
		"no capability":     {func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = nil }, codes.InvalidArgument},
		"block":             {func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = blockCapability() }, codes.InvalidArgument},
		"other file system": {func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability.GetMount().FsType = "xfs" }, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			r := stageRequest(t.TempDir())
			test.change(r)
			_, err := newFixture(t).Node().NodeStageVolume(t.Context(), r)
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
