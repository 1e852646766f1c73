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
)

// revisionBump is how far a restored cluster's revisions are ahead of what
// any client can have seen: a client that comes with an older one lists anew.
const revisionBump = 1_000_000_000

// Target is what a snapshot is restored to.
type Target struct {
	// EtcdDir and KeysDir are made; what is there is kept beside them.
	EtcdDir, KeysDir string
	// Member and PeerURL are those of the only etcd member.
	Member, PeerURL string
}

// Restore makes the directories of a cluster from the snapshot at path. Until
// the snapshot was found whole and etcd's data were made from it, nothing
// changes. It returns where the directories from before are now.
func Restore(file string, to Target) (kept []string, err error) {
	work, err := os.MkdirTemp(filepath.Dir(to.EtcdDir), ".restore-")
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	defer os.RemoveAll(work)
	if err := unpack(file, work); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	fresh := filepath.Join(work, "etcd")
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: filepath.Join(work, databaseName), OutputDataDir: fresh,
		Name: to.Member, PeerURLs: []string{to.PeerURL}, InitialCluster: to.Member + "=" + to.PeerURL,
		InitialClusterToken: "etcd-cluster", RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return nil, fmt.Errorf("restore snapshot %s: make etcd's data: %w", file, err)
	}
	suffix := ".before-restore-" + time.Now().UTC().Format("20060102T150405Z")
	// The keys come first: a cluster without data is made anew, one with
	// other keys could not be used.
	for _, move := range [][2]string{{filepath.Join(work, keysDir), to.KeysDir}, {fresh, to.EtcdDir}} {
		old, err := replace(move[0], move[1], suffix)
		if err != nil {
			return kept, fmt.Errorf("restore snapshot %s: %w", file, err)
		}
		if old != "" {
			kept = append(kept, old)
		}
	}
	return kept, syncDir(filepath.Dir(to.EtcdDir))
}

// replace puts a directory in the place of another, which gets the suffix.
func replace(from, to, suffix string) (old string, err error) {
	err = os.Rename(to, to+suffix)
	switch {
	case err == nil:
		old = to + suffix
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	return old, os.Rename(from, to)
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
