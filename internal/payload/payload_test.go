// SPDX-License-Identifier: Apache-2.0

package payload

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
)

func packed(t *testing.T, content string) *fstest.MapFile {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: out.Bytes()}
}

// at is where a helper program is.
func at(name string) string { return "files/" + runtime.GOARCH + "/" + name + ".gz" }

func TestExtract(t *testing.T) {
	from := fstest.MapFS{
		at("one"): packed(t, "first"),
		at("two"): packed(t, "second"),
	}
	dir := filepath.Join(t.TempDir(), "bin")
	if err := extract(from, dir, []string{"one", "two"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "first", "two": "second"} {
		path := filepath.Join(dir, name)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want || info.Mode() != 0o755 {
			t.Errorf("%s: %q with mode %v, want %q with mode 0755", name, got, info.Mode(), want)
		}
	}
}

func TestExtractReplacesOnlyWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	from := fstest.MapFS{at("one"): packed(t, "first"), at("two"): packed(t, "second")}
	names := []string{"one", "two"}
	if err := extract(from, dir, names); err != nil {
		t.Fatal(err)
	}
	before := stat(t, dir, names)
	from[at("two")] = packed(t, "other")
	if err := extract(from, dir, names); err != nil {
		t.Fatal(err)
	}
	after := stat(t, dir, names)
	if !os.SameFile(before[0], after[0]) {
		t.Error("the unchanged program was written again")
	}
	if os.SameFile(before[1], after[1]) {
		t.Error("the changed program was overwritten in place")
	}
}

func stat(t *testing.T, dir string, names []string) []os.FileInfo {
	t.Helper()
	var infos []os.FileInfo
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	return infos
}

func TestMissing(t *testing.T) {
	_, err := Read("no-such-program")
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Name != "no-such-program" {
		t.Errorf("Read: got %v, want a MissingError", err)
	}
	err = Extract(t.TempDir(), "no-such-program")
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("Extract: got %v, want a MissingError that says what to do", err)
	}
}

func TestDamaged(t *testing.T) {
	whole := packed(t, "first").Data
	for name, data := range map[string][]byte{
		"not gzip":  []byte("plain"),
		"cut short": whole[:len(whole)-4],
	} {
		from := fstest.MapFS{at("one"): {Data: data}}
		if _, err := read(from, "one"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Programs of two architectures must not mix: see the Makefile.
func TestHelpersAreForThisMachine(t *testing.T) {
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	for _, name := range []string{"pause", "slipway-cni", "containerd-shim-runc-v2"} {
		program, err := Read(name)
		if errors.As(err, new(*MissingError)) {
			t.Skip("needs the helper programs, which `make build` embeds")
		}
		if err != nil {
			t.Fatal(err)
		}
		file, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if file.Machine != want {
			t.Errorf("%s is for %v, expected %v", name, file.Machine, want)
		}
	}
}
