// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/test/machine"
)

// badInput is a start that cannot work.
type badInput struct {
	name string
	// prepare changes the command or the machine.
	prepare func(*testing.T, *exec.Cmd, directories)
	args    []string
	// want are words that tell what is wrong, and what to do.
	want []string
	// late is set when half of the node runs before it is noticed: then a
	// data directory stays, with the log in it.
	late bool
}

// directories are those of a node that is never started.
type directories struct{ data, run string }

var badInputs = []badInput{
	{name: "unknown flag", args: []string{"--no-such-flag"}, want: []string{"--no-such-flag", "--help"}},
	{name: "unknown argument", args: []string{"now"}, want: []string{`"now"`, "--help"}},
	{name: "value of a flag", args: []string{"--pod-cidr=10.0.0.0"}, want: []string{"--pod-cidr", "expected a range like"}},
	{
		name: "overlapping ranges", args: []string{"--pod-cidr=10.96.0.0/12", "--service-cidr=10.97.0.0/16"},
		want: []string{"--pod-cidr 10.96.0.0/12 overlaps --service-cidr 10.97.0.0/16", "choose ranges that do not"},
	},
	{name: "long run directory", args: []string{"--run-dir=/tmp/" + strings.Repeat("x", 110)}, want: []string{"--run-dir", "bytes"}},
	{
		name: "address of another machine", args: []string{"--node-ip=203.0.113.9"},
		want: []string{"--node-ip 203.0.113.9", "not an address of this machine"},
	},
	{name: "schedule", args: []string{"--snapshot-schedule=noon"}, want: []string{`--snapshot-schedule "noon"`, "expected a time like"}},
	{name: "retention", args: []string{"--snapshot-retention=0"}, want: []string{"--snapshot-retention 0", "expected 1 or more"}},
	{
		name: "audit policy", args: []string{"--audit-log=/nowhere/audit.log", "--audit-policy=testdata/audit.yaml"},
		want: []string{"--audit-policy", "testdata/audit.yaml", "rules[0].verb"},
	},
	{name: "API port taken", prepare: listenOn("6443"), want: []string{"6443", "already in use by e2e.test", "--api-port"}},
	{name: "ingress port taken", prepare: listenOn("80"), want: []string{"port 80 ", "already in use by e2e.test", "--ingress-http-port"}},
	{name: "data of another version", prepare: otherVersion, want: []string{"layout 99", "v99.0.0", "down --purge"}},
	{name: "damaged data", prepare: damagedVersion, want: []string{"version.json", "down --purge"}},
	{name: "damaged database", prepare: damagedDatabase, want: []string{"etcd", "down --purge"}, late: true},
	{name: "not root", prepare: asNobody, want: []string{"root", "sudo"}},
	{name: "no runc", prepare: withoutRunc, want: []string{"runc", "apt-get install runc"}},
	{name: "small disk", prepare: onSmallDisk, want: []string{"MiB free", "needed", "--data-dir"}},
	{name: "no cgroup v2", prepare: withoutCgroup2, want: []string{"cgroup v2 is not mounted", "mount -t cgroup2"}},
}

// TestRootBadInput finds one clear line for each thing that is wrong, and a
// machine on which nothing was left.
func TestRootBadInput(t *testing.T) {
	s := binary(t)
	for _, bad := range badInputs {
		for _, detach := range []string{"--detach=false", "--detach"} {
			t.Run(bad.name+" "+detach, func(t *testing.T) { s.refuses(t, bad, detach) })
		}
	}
}

func (s slipway) refuses(t *testing.T, bad badInput, detach string) {
	base := shortDir(t)
	dirs := directories{filepath.Join(base, "data"), filepath.Join(base, "run")}
	own := []string{"--data-dir=" + dirs.data, "--run-dir=" + dirs.run, "--kubeconfig=" + filepath.Join(base, "kubeconfig")}
	cmd := exec.Command(s.path, slices.Concat([]string{"up", detach}, own, bad.args)...)
	cmd.Env = s.env
	t.Cleanup(func() {
		// Only what was not refused, or too late, has a journal.
		if exists(dirs.run) || exists(filepath.Join(dirs.data, "host.json")) {
			s.run(t, time.Minute, append([]string{"down", "--purge"}, own...)...)
		}
	})
	if bad.prepare != nil {
		bad.prepare(t, cmd, dirs)
	}
	before, files := settled(t), list(t, base)
	r := s.start(t, 30*time.Second, cmd)
	if r.status == 0 {
		t.Errorf("status 0:\n%s%s", r.stdout, r.stderr)
	}
	text := strings.TrimSuffix(r.stderr, "\n")
	if text == "" || strings.Contains(text, "\n") {
		t.Errorf("expected one line of text, got:\n%s", r.stderr)
	}
	for _, want := range bad.want {
		if !strings.Contains(text, want) {
			t.Errorf("expected %q in: %s", want, text)
		}
	}
	// The kernel frees what the checks have loaded some time after the process.
	roottest.Eventually(t, 10*time.Second, func() error {
		if diff := machine.Diff(before, snapshot(t)); len(diff) > 0 {
			return errors.New(strings.Join(diff, "\n"))
		}
		return nil
	})
	for _, path := range list(t, base) {
		if !slices.Contains(files, path) && (!bad.late || strings.HasPrefix(path, dirs.run)) {
			t.Errorf("left behind: %s", path)
		}
	}
}

// shortDir makes a directory with a path that leaves room for unix sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// list names what is below a directory.
func list(t *testing.T, base string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(base, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listenOn has this process take a port.
func listenOn(port string) func(*testing.T, *exec.Cmd, directories) {
	return func(t *testing.T, _ *exec.Cmd, _ directories) {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			t.Skipf("port %s of this machine is in use: %v", port, err)
		}
		t.Cleanup(func() { listener.Close() })
	}
}

func otherVersion(t *testing.T, _ *exec.Cmd, dirs directories) {
	writeVersion(t, dirs, `{"data":99,"slipway":"v99.0.0","kubernetes":"`+version.Kubernetes+`"}`)
}

func damagedVersion(t *testing.T, _ *exec.Cmd, dirs directories) { writeVersion(t, dirs, `{"data":`) }

func writeVersion(t *testing.T, dirs directories, content string) {
	t.Helper()
	if err := os.Mkdir(dirs.data, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs.data, "version.json"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// damagedDatabase has a file where etcd keeps a directory.
func damagedDatabase(t *testing.T, _ *exec.Cmd, dirs directories) {
	if err := os.MkdirAll(filepath.Join(dirs.data, "etcd"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs.data, "etcd", "member"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// asNobody runs a copy of the binary that everybody can reach, as a user
// without rights.
func asNobody(t *testing.T, cmd *exec.Cmd, _ directories) {
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := copyFile(path, cmd.Path); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Dir = path, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// withoutRunc gives the command a PATH with everything but runc.
func withoutRunc(t *testing.T, cmd *exec.Cmd, _ directories) {
	bin := t.TempDir()
	for _, name := range []string{"mount", "umount", "mkfs.ext4", "e2fsck", "ss", "ip", "nft"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+bin)
}

// onSmallDisk has the data directory on a file system of 64 MiB.
func onSmallDisk(t *testing.T, cmd *exec.Cmd, _ directories) {
	small := t.TempDir()
	if err := syscall.Mount("small", small, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	cmd.Args = append(cmd.Args, "--data-dir="+filepath.Join(small, "data"))
}

// withoutCgroup2 runs the command where cgroup v2 is not mounted.
func withoutCgroup2(t *testing.T, cmd *exec.Cmd, _ directories) {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("unshare is not installed")
	}
	// On the hybrid layout only the second is cgroup v2.
	script := `umount -l /sys/fs/cgroup/unified 2>/dev/null || umount -l /sys/fs/cgroup; exec "$@"`
	cmd.Path = unshare
	cmd.Args = append([]string{unshare, "--mount", "--propagation=private", "sh", "-c", script, "sh"}, cmd.Args...)
}
