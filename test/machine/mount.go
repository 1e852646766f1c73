// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// mount is a line of /proc/PID/mountinfo.
type mount struct {
	point, root, fsType, source string
	shared                      bool
}

func (m mount) String() string {
	text := fmt.Sprintf("%s (%s %s from %s)", m.point, m.fsType, m.root, m.source)
	if m.shared {
		text += " shared"
	}
	return text
}

func mountTable() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var table []mount
	for line := range strings.Lines(string(data)) {
		m, err := parseMount(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		table = append(table, m)
	}
	return table, nil
}

// parseMount reads a line of mountinfo, see proc_pid_mountinfo(5).
func parseMount(line string) (mount, error) {
	head, tail, found := strings.Cut(line, " - ")
	before, after := strings.Fields(head), strings.Fields(tail)
	if !found || len(before) < 6 || len(after) < 2 {
		return mount{}, fmt.Errorf("unexpected line of mountinfo %q", line)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	m := mount{point: unescape.Replace(before[4]), root: unescape.Replace(before[3]), fsType: after[0], source: unescape.Replace(after[1])}
	for _, field := range before[6:] {
		m.shared = m.shared || strings.HasPrefix(field, "shared:")
	}
	if m.fsType == "nsfs" {
		// The number of the namespace says nothing.
		m.root, _, _ = strings.Cut(m.root, ":")
	}
	return m, nil
}

func mounts() ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range table {
		out = append(out, m.String())
	}
	return out, nil
}

// namespaces lists the network namespaces that have a name in the file
// system: those of ip-netns(8), and mounted ones anywhere.
func namespaces() ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range table {
		if m.fsType == "nsfs" && m.root == "net" {
			out = append(out, m.point)
		}
	}
	named, err := walk("/run/netns", func(path string, d fs.DirEntry) (string, bool) { return path, !d.IsDir() })
	return append(out, named...), err
}

// loops lists the loop devices that have a backing file.
func loops() ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		backing, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		device := filepath.Base(filepath.Dir(filepath.Dir(file)))
		out = append(out, device+" of "+strings.TrimSpace(string(backing)))
	}
	return out, nil
}

// pins lists what is in each mounted BPF file system.
func pins() ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range table {
		if m.fsType != "bpf" {
			continue
		}
		found, err := walk(m.point, func(path string, _ fs.DirEntry) (string, bool) { return path, path != m.point })
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
