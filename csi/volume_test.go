// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/csi/loop"
	"slipway.dev/slipway/csi/mount"
)

// formatted attaches the image with a new ext4 on it.
func formatted(t testing.TB, image string) *loop.Device {
	t.Helper()
	must(t, filesystem.Make(t.Context(), image, filesystem.Ext4))
	device, err := loop.Attach(t.Context(), image)
	must(t, err)
	return device
}

func TestRootSizeIsEnforced(t *testing.T) {
	const size = 64 * mib
	h := newHost(t)
	v := h.mounted("pvc-size", size)
	if v.CapacityBytes != size {
		t.Errorf("capacity is %d, want %d", v.CapacityBytes, size)
	}

	stats, err := h.NodeGetVolumeStats(t.Context(), &csipb.NodeGetVolumeStatsRequest{VolumeId: v.VolumeId, VolumePath: h.target("a")})
	must(t, err)
	if total := stats.Usage[0].Total; total > size || total < size*85/100 {
		t.Errorf("df shows %d bytes, want a little less than %d", total, size)
	}

	f, err := os.Create(filepath.Join(h.target("a"), "fill"))
	must(t, err)
	defer f.Close()
	written, block := int64(0), make([]byte, mib)
	for range 2 * size / mib {
		var n int
		if n, err = f.Write(block); err != nil {
			break
		}
		written += int64(n)
	}
	if !errors.Is(err, unix.ENOSPC) || written > size {
		t.Errorf("wrote %d bytes into a volume of %d, then %v; want ENOSPC", written, size, err)
	}
	must(t, f.Close())
	h.unmounted(v.VolumeId)
}

func TestRootSpaceStaysReserved(t *testing.T) {
	const size = 64 * mib
	h := newHost(t)
	v := h.mounted("pvc-thick", size)
	h.write("a", "x", "some content")
	must(t, os.Remove(filepath.Join(h.target("a"), "x")))

	// What fstrim does.
	dir, err := os.Open(h.target("a"))
	must(t, err)
	trim := struct{ start, length, minimum uint64 }{length: 1 << 62}
	if err := ioctlTrim(dir, &trim); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("trim gives %v, want %v", err, unix.EOPNOTSUPP)
	}
	must(t, dir.Close())
	h.unmounted(v.VolumeId)

	var st unix.Stat_t
	must(t, unix.Stat(h.image(v.VolumeId), &st))
	if st.Size != size || st.Blocks*512 < size {
		t.Errorf("image has %d bytes, %d reserved; want %d", st.Size, st.Blocks*512, size)
	}

	// Space that was lost behind our back is taken again.
	f, err := os.OpenFile(h.image(v.VolumeId), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 32*mib, 8*mib))
	must(t, f.Close())
	h.restartDriver()
	eventuallyReserved(t, h.image(v.VolumeId), size)
}

func TestRootDataIsKept(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-data", 32*mib)
	h.write("a", "name", "slipway")
	for range 3 {
		h.unmounted(v.VolumeId)
		if left := h.loops(); len(left) > 0 {
			t.Errorf("attached after unstage: %v", left)
		}
		must(t, h.stage(v.VolumeId, writer()))
		must(t, h.publish(v.VolumeId, "a", writer(), false))
		h.wantContent("a", "name", "slipway")
	}
}

func TestRootXFS(t *testing.T) {
	h := newHost(t)
	xfs := capability(csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, "xfs", "noatime", "nodev")
	r, err := h.CreateVolume(t.Context(), &csipb.CreateVolumeRequest{
		Name: "pvc-xfs", VolumeCapabilities: []*csipb.VolumeCapability{xfs},
		CapacityRange: &csipb.CapacityRange{RequiredBytes: mib},
	})
	if status.Code(err) == codes.InvalidArgument {
		t.Skipf("no xfs here: %v", err)
	}
	must(t, err)
	id := r.Volume.VolumeId
	if want := filesystem.MinBytes(filesystem.XFS); r.Volume.CapacityBytes != want {
		t.Errorf("capacity is %d, want the least xfs can have, %d", r.Volume.CapacityBytes, want)
	}
	wantCode(t, h.stage(id, capability(csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, "ext4")), codes.InvalidArgument)
	must(t, h.stage(id, xfs))
	must(t, h.publish(id, "a", xfs, false))
	h.write("a", "name", "slipway")
	entries, err := mount.Table{}.At(h.target("a"))
	must(t, err)
	if len(entries) != 1 || entries[0].FSType != "xfs" {
		t.Errorf("mounted: %+v, want one xfs", entries)
	}
}

func TestRootReadOnly(t *testing.T) {
	h := newHost(t)
	v := h.mounted("pvc-ro", 32*mib)
	h.write("a", "name", "slipway")
	must(t, h.publish(v.VolumeId, "b", writer(), true))
	h.wantContent("b", "name", "slipway")
	if err := os.WriteFile(filepath.Join(h.target("b"), "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write gives %v, want %v", err, unix.EROFS)
	}
	h.write("a", "other", "still writable")
}

func TestRootSingleWriter(t *testing.T) {
	h := newHost(t)
	single := capability(csipb.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, "")
	v, err := h.create("pvc-rwop", 32*mib)
	must(t, err)
	must(t, h.stage(v.VolumeId, single))
	must(t, h.publish(v.VolumeId, "a", single, false))
	must(t, h.publish(v.VolumeId, "a", single, false))
	wantCode(t, h.publish(v.VolumeId, "b", single, false), codes.FailedPrecondition)
	must(t, h.unpublish(v.VolumeId, "a"))
	must(t, h.publish(v.VolumeId, "b", single, false))
}

func TestRootDeleteRemovesEverything(t *testing.T) {
	h := newHost(t)
	before, err := freeBytes(h.config.Root)
	must(t, err)
	v := h.mounted("pvc-delete", 256*mib)
	wantCode(t, h.remove(v.VolumeId), codes.FailedPrecondition)
	h.wantContentOf("a")
	h.unmounted(v.VolumeId)
	must(t, h.remove(v.VolumeId))
	must(t, h.remove(v.VolumeId))
	for _, dir := range []string{"volumes", "creating", "deleting"} {
		h.wantEmpty(dir)
	}
	if _, err := os.Stat(h.target("a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("target: %v, want it gone", err)
	}
	if after, err := freeBytes(h.config.Root); err != nil || after < before-200*mib {
		t.Errorf("%d bytes free after, %d before (%v)", after, before, err)
	}
	wantCode(t, h.stage(v.VolumeId, writer()), codes.NotFound)
}

// wantContentOf proves that the volume is usable.
func (h *host) wantContentOf(pod string) {
	h.t.Helper()
	h.write(pod, "probe", "probe")
	h.wantContent(pod, "probe", "probe")
}

func TestRootFullDisk(t *testing.T) {
	disk := smallDisk(t, 128*mib)
	h := startHost(t, filepath.Join(disk, "root"), filepath.Join(tempDir(t), "kubelet"))
	_, err := h.create("pvc-big", 1<<30)
	wantCode(t, err, codes.ResourceExhausted)
	if message := status.Convert(err).Message(); !regexp.MustCompile(`1073741824 bytes needed, \d+ bytes available`).MatchString(message) {
		t.Errorf("message is %q", message)
	}
	for _, dir := range []string{"volumes", "creating"} {
		h.wantEmpty(dir)
	}
	v, err := h.create("pvc-small", 32*mib)
	must(t, err)

	capacity, err := h.GetCapacity(t.Context(), &csipb.GetCapacityRequest{})
	must(t, err)
	_, err = h.create("pvc-more", capacity.AvailableCapacity+mib)
	wantCode(t, err, codes.ResourceExhausted)

	// A full disk below does not matter to a volume: its space is its own.
	must(t, h.stage(v.VolumeId, writer()))
	must(t, h.publish(v.VolumeId, "a", writer(), false))
	fill(t, filepath.Join(disk, "fill"))
	must(t, os.WriteFile(filepath.Join(h.target("a"), "data"), make([]byte, 16*mib), 0o600))
	must(t, syncFS(h.target("a")))
	must(t, os.Remove(filepath.Join(disk, "fill")))
}

// fill writes the file until the disk is full.
func fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for _, size := range []int{mib, 4096} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

func TestRootManyAtOnce(t *testing.T) {
	h := newHost(t)
	const callers = 8
	ended := make(chan error, callers)
	for range callers {
		go func() {
			_, err := h.CreateVolume(context.WithoutCancel(t.Context()), &csipb.CreateVolumeRequest{
				Name: "pvc-same", CapacityRange: &csipb.CapacityRange{RequiredBytes: 32 * mib},
				VolumeCapabilities: []*csipb.VolumeCapability{writer()},
			})
			ended <- err
		}()
	}
	for range callers {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	volumes, err := h.driver.Volumes()
	must(t, err)
	if len(volumes) != 1 || volumes[0].Handle != "pvc-same@node-a" || volumes[0].Attached {
		t.Errorf("volumes: %+v, want one, not attached", volumes)
	}
}
