// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// revisionBump is how far a restored cluster's revisions are ahead of what
// any client can have seen: a client that comes with an older one lists anew.
const revisionBump = 1_000_000_000

// Target is what a snapshot is restored to: the directories of one server, in
// the same parent directory.
type Target struct {
	// EtcdDir and KeysDir are made; what is there is kept beside them.
	EtcdDir, KeysDir string
	// Member and PeerURL are those of the only etcd member.
	Member, PeerURL string
	// Force allows that there is a cluster already.
	Force bool
}

// Restore makes the directories of a cluster from a snapshot. Nothing changes
// until the snapshot was found whole and etcd's data were made from it; then
// one rename decides, and [Finish] does the rest. It returns where the
// directories from before are now.
func Restore(file string, to Target) (kept []string, err error) {
	if err := to.check(); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	work, err := makeWork(to.parent())
	if err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	defer work.remove()
	if err := build(file, work.dir, to); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	// An earlier restore that was killed must not be taken for this one.
	if _, err := Finish(to); err != nil {
		return nil, err
	}
	ready := filepath.Join(to.parent(), readyPrefix+time.Now().UTC().Format(timeFormat))
	if err := os.Rename(work.dir, ready); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	return Finish(to)
}

func (t Target) parent() string { return filepath.Dir(t.EtcdDir) }

// check finds out whether the directories may be replaced, and can be.
func (t Target) check() error {
	for _, dir := range []string{t.KeysDir, t.EtcdDir} {
		if !exists(dir) {
			continue
		}
		if dir == t.EtcdDir && !t.Force {
			return fmt.Errorf("%s holds a cluster already: --force puts this one in its place and keeps it beside, or remove it with `slipway down --purge`", dir)
		}
		var own, above unix.Stat_t
		if err := errors.Join(unix.Stat(dir, &own), unix.Stat(t.parent(), &above)); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if own.Dev != above.Dev {
			return fmt.Errorf("%s is a file system of its own and cannot be replaced: unmount it, restore, and move the new directory to it", dir)
		}
	}
	return nil
}

// build makes etcd's data and the keys below work from a snapshot.
func build(file, work string, to Target) error {
	if err := unpack(file, work); err != nil {
		return err
	}
	database := filepath.Join(work, databaseName)
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: database, OutputDataDir: filepath.Join(work, etcdDir),
		Name: to.Member, PeerURLs: []string{to.PeerURL}, InitialCluster: to.Member + "=" + to.PeerURL,
		InitialClusterToken: "etcd-cluster", RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("make etcd's data: %w", err)
	}
	if err := os.Remove(database); err != nil {
		return err
	}
	return syncAll(work)
}

const (
	// readyPrefix is what the name of a directory begins with that holds a
	// restored cluster, and ends with the time of the restore.
	readyPrefix = "restored-"
	etcdDir     = "etcd"
)

// Finish puts into their places what [Restore] has made ready. Where a process
// was killed between the steps, the next one goes on; without anything ready
// it does nothing.
func Finish(to Target) (kept []string, err error) {
	all, err := filepath.Glob(filepath.Join(to.parent(), readyPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, ready := range all {
		suffix := ".before-restore-" + strings.TrimPrefix(filepath.Base(ready), readyPrefix)
		for _, move := range [][2]string{{filepath.Join(ready, keysDir), to.KeysDir}, {filepath.Join(ready, etcdDir), to.EtcdDir}} {
			if err := replace(move[0], move[1], move[1]+suffix); err != nil {
				return kept, fmt.Errorf("finish restore: %w", err)
			}
			if exists(move[1] + suffix) {
				kept = append(kept, move[1]+suffix)
			}
		}
		if err := errors.Join(os.Remove(ready), syncDir(to.parent())); err != nil {
			return kept, fmt.Errorf("finish restore: %w", err)
		}
	}
	return kept, nil
}

// replace moves a directory to the place of another, which is kept, unless
// that was done before.
func replace(from, to, keep string) error {
	if !exists(from) {
		return nil
	}
	if exists(to) {
		if err := os.Rename(to, keep); err != nil {
			return err
		}
	}
	return os.Rename(from, to)
}

// Read returns the manifest of a snapshot.
func Read(file string) (Manifest, error) {
	in, err := os.Open(file)
	if err != nil {
		return Manifest{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer in.Close()
	m, _, _, err := readManifest(in)
	if err != nil {
		return Manifest{}, fmt.Errorf("read snapshot %s: %w", file, err)
	}
	return m, nil
}

// maxManifest bounds what is read before anything is known of a file.
const maxManifest = 1 << 20

// readManifest returns the manifest, the archive behind it, and the stream that
// the archive comes from.
func readManifest(in io.Reader) (m Manifest, archive *tar.Reader, stream io.Reader, err error) {
	zip, err := gzip.NewReader(in)
	if err != nil {
		return m, nil, nil, fmt.Errorf("it is no snapshot of slipway, or damaged: %w", err)
	}
	archive = tar.NewReader(zip)
	header, err := archive.Next()
	if err != nil || header.Name != manifestName {
		return m, nil, nil, fmt.Errorf("it is no snapshot of slipway, or damaged: no %s at its start", manifestName)
	}
	if err := json.NewDecoder(io.LimitReader(archive, maxManifest)).Decode(&m); err != nil {
		return m, nil, nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	if m.Format > format {
		return m, nil, nil, fmt.Errorf("it has format %d, written by slipway %s; this program knows formats up to %d: use that release", m.Format, m.Slipway, format)
	}
	if m.Format < 1 || m.Files[databaseName] == "" {
		return m, nil, nil, fmt.Errorf("%s: format %d without %s", manifestName, m.Format, databaseName)
	}
	return m, archive, zip, nil
}

// unpack writes the files of a snapshot below dir and checks each.
func unpack(file, dir string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	m, archive, stream, err := readManifest(in)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, keysDir), 0o700); err != nil {
		return err
	}
	missing := maps.Clone(m.Files)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return truncated(err)
		}
		want, known := missing[header.Name]
		if !known || !safe(header.Name) {
			return fmt.Errorf("it holds %q, which its manifest does not name", header.Name)
		}
		if err := extract(archive, filepath.Join(dir, header.Name), want); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
		delete(missing, header.Name)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s is missing: the file is cut off", slices.Sorted(maps.Keys(missing))[0])
	}
	// What is behind the last file has a checksum of all.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return truncated(err)
	}
	return nil
}

// safe tells whether a name stays below the directory it is unpacked to.
func safe(name string) bool {
	dir, base := path.Split(name)
	return base != "" && base != "." && base != ".." && (dir == "" || dir == keysDir+"/") && !strings.Contains(base, "\\")
}

func extract(from io.Reader, to, want string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), from); err != nil {
		return truncated(err)
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != want {
		return fmt.Errorf("its SHA-256 is %s, expected %s: the file is damaged", have, want)
	}
	return out.Sync()
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is cut off")
	}
	return fmt.Errorf("the file is damaged: %w", err)
}
